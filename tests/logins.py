"""Authentication methods, right and wrong credentials, and secrets that must never be shown."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import Callable

import trustme
from botocore.credentials import Credentials
from click.testing import Result
from tls_proxy import Check, Gate, asks_for, asks_for_password, asks_for_signature

Call = Callable[..., Result]

PASSWORD = "pässwörd-€-of-ann"
API_KEY = "aWQtb2Yta2V5OnNlY3JldC1vZi1rZXk="
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS_SESSION = "FwoGZXIvYXdzEPT-session-token-of-ann"
WRONG = "open-sesame"
SECRETS = (
    *(
        PASSWORD,
        json.dumps(PASSWORD).strip('"'),
        b64encode(f"ann:{PASSWORD}".encode()).decode(),
        API_KEY,
        TOKEN,
    ),
    *(AWS_SECRET, AWS_SESSION, WRONG, b64encode(f"ann:{WRONG}".encode()).decode()),
)

GOOD = '{"_id": "bees", "title": "Honey", "text": "Insects dance to tell where nectar is."}'

WAYS: dict[str, tuple[Check, list[str], list[str], str]] = {
    "basic": (
        asks_for_password("ann", PASSWORD),
        ["--user", "ann", "--password-env", "RIGHT_PASSWORD"],
        ["--user", "ann", "--password-env", "WRONG"],
        "refuses the user name or the password; check --user and --password-env or --password-file",
    ),
    "api_key": (
        asks_for(f"ApiKey {API_KEY}"),
        ["--api-key-file", "api.key"],
        ["--api-key-env", "WRONG"],
        "refuses the API key; check --api-key-env or --api-key-file, and whether it has expired",
    ),
    "token": (
        asks_for(f"Bearer {TOKEN}"),
        ["--token-file", "token.txt"],
        ["--token-env", "WRONG"],
        "refuses the bearer token; check --token-env or --token-file, and whether it has expired",
    ),
    "aws": (
        asks_for_signature(Credentials("AKIDANN", AWS_SECRET, AWS_SESSION), "eu-west-1", "es"),
        ["--aws-region", "eu-west-1"],
        ["--aws-region", "eu-west-1", "--aws-profile", "wrong"],
        "refuses the AWS signature; check the AWS credentials, --aws-region, --aws-service and "
        "the access policy (The request signature we calculated does not match the signature you "
        "provided. Check your AWS Secret Access Key and signing method. Consult the service "
        "documentation for details.)",
    ),
}


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def leaks(text: str | bytes) -> list[str]:
    """Secrets that the text contains."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return [secret for secret in SECRETS if secret in text]


def refused(result: Result) -> str:
    """The line that a command prints if the engine refuses it."""
    assert result.exit_code == 1, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def address(server: Gate) -> tuple[str, ...]:
    return ("--url", server.url, "--ca", "ca.pem")
