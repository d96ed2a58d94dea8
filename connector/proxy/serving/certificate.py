"""The proxy's own certificate, looked at before it is shown to clients."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from latent_ingest.connector.engine.tls import EXPIRED, NOT_YET_VALID
from latent_ingest.connector.errors import InputError

log = logging.getLogger(__name__)

OUT_OF_DATE = {EXPIRED: "has expired", NOT_YET_VALID: "is not valid yet"}


def check_certificate(certificate: str | Path, key: str | Path | None) -> None:
    """Warn of a certificate that clients will refuse for its dates.

    Raises:
        InputError: certificate and key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{certificate}: no certificate and key in PEM; check --tls-cert and --tls-key "
            f"({error})"
        ) from error
    if state := OUT_OF_DATE.get(refusal(context, certificate)):
        log.warning("%s: the certificate %s; clients refuse it", certificate, state)


def refusal(context: ssl.SSLContext, certificate: str | Path) -> int:
    """Return OpenSSL's code for why a client that trusts the certificate refuses it, 0 if it does
    not: the standard library tells dates only by a handshake, which is made in memory.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
            except ssl.SSLError:  # not by its dates
                return 0
    return 0
