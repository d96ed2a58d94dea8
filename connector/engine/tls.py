"""TLS to the engine: trusted authorities, our own certificate, and failures in plain words."""

from __future__ import annotations

import ssl
from pathlib import Path

import urllib3
from opensearchpy import Urllib3HttpConnection

from latent_ingest.connector.errors import InputError

# OpenSSL's X509_V_ERR_*.
NOT_YET_VALID, EXPIRED = 9, 10
UNTRUSTED = frozenset({2, 18, 19, 20, 21})
OTHER_HOST = frozenset({62, 64})

# TLS alerts of a server that requires another client certificate than it was given.
CLIENT_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_ACCESS_DENIED",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)


def tls_context(
    ca_file: str | None, verify: bool, client_cert: str | None, client_key: str | None
) -> ssl.SSLContext:
    """A context that trusts `ca_file`, or the system's authorities, and presents our certificate.

    Raises:
        InputError: a file cannot be read, is not PEM, or key and certificate do not match.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{ca_file}: no certificates in PEM; check --ca ({error})") from error
    bundle = Urllib3HttpConnection.default_ca_certs()
    if ca_file is None and bundle and Path(bundle).is_file():
        context.load_verify_locations(bundle)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # The user was warned once; urllib3 would warn for each request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if client_cert:
        load_certificate(context, client_cert, client_key)
    elif client_key:
        raise InputError("--client-key needs --client-cert")
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Present this certificate to servers that ask; the key may be in the same file."""

    def no_passphrase() -> str:
        raise InputError(
            f"{key or certificate}: the key is encrypted; decrypt it with openssl pkey"
        )

    try:
        context.load_cert_chain(certificate, key, no_passphrase)
    except ssl.SSLError as error:
        files = f"{certificate} and {key}" if key else certificate
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(
                f"{files}: the key does not belong to the certificate; check --client-key"
            ) from error
        raise InputError(
            f"{files}: no certificate and key in PEM; check --client-cert and --client-key"
        ) from error
    except OSError as error:
        raise InputError(f"{error.filename or certificate}: {error.strerror}") from error


def tls_in_words(error: BaseException | None, url: str, reason: str) -> str:
    """One line for a handshake that failed: which check, and how to fix it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OTHER_HOST:
            return (
                f"the certificate of {url} is for another host: {error.verify_message} "
                f"Use a host name of the certificate in --url"
            )
        if error.verify_code == EXPIRED:
            return f"the certificate of {url} has expired; renew it, or check this machine's clock"
        if error.verify_code == NOT_YET_VALID:
            return f"the certificate of {url} is not valid yet; check this machine's clock"
        if error.verify_code in UNTRUSTED:
            return (
                f"the certificate of {url} is not from an authority trusted here "
                f"({error.verify_message}); give the authority's certificate with --ca"
            )
    alert = getattr(error, "reason", None) or ""
    if any(name in alert for name in CLIENT_CERTIFICATE_ALERTS):
        words = alert.split("ALERT_")[-1].replace("_", " ").lower()
        return (
            f"{url} requires another client certificate ({words}); "
            f"check --client-cert and --client-key"
        )
    return f"TLS failure at {url}: {reason}; check --ca, or write http:// if it has no TLS"
