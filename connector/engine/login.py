"""Authentication: the ways to log in to an engine, and what requests carry for each."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

from opensearchpy import Urllib3AWSV4SignerAuth

from latent_ingest.connector.errors import InputError


@dataclass(frozen=True, slots=True)
class Login:
    """Authentication of a request, by a header or a signature; neither is ever shown."""

    refused: str
    """Message if the engine does not accept it; follows the URL."""
    header: str | None = field(default=None, repr=False)
    """Value of the Authorization header."""
    sign: Callable[..., dict[str, str]] | None = field(default=None, repr=False)
    """Signs each request: method, URL and body → headers."""


NOBODY = Login("requires authentication; use --user, --api-key-env, --token-env or --aws-region")
OF_CLIENT = Login("refuses the client's login, or requires one; give the client another login")
CERTIFICATE = Login("does not accept the client certificate as a login; check --client-cert")


def basic(user: str, password: str) -> Login:
    """Log in with user name and password."""
    if ":" in user:
        raise InputError("a user name cannot contain ':'; give the password with --password-env")
    return Login(
        "refuses the user name or the password; check --user and --password-env or --password-file",
        "Basic " + b64encode(f"{user}:{password}".encode()).decode(),
    )


def api_key(key: str) -> Login:
    """Log in with an API key, in the encoded form that engines issue."""
    return Login(
        "refuses the API key; check --api-key-env or --api-key-file, and whether it has expired",
        f"ApiKey {sendable(key, 'API key')}",
    )


def bearer(token: str) -> Login:
    """Log in with a bearer token, such as a JWT."""
    return Login(
        "refuses the bearer token; check --token-env or --token-file, and whether it has expired",
        f"Bearer {sendable(token, 'token')}",
    )


def sendable(secret: str, name: str) -> str:
    """The secret, if a header can carry it; the message does not repeat it otherwise."""
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise InputError(
            f"the {name} is empty or contains blanks, line ends or non-ASCII characters"
        )
    return secret


def aws(region: str, service: str, profile: str | None) -> Login:
    """Sign requests (AWS SigV4) with the credentials that botocore finds and refreshes.

    Raises:
        InputError: botocore is missing, or there are no credentials.
    """
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise InputError(
            "signing for AWS needs botocore; pip install 'latent-ingest[aws]' installs it"
        ) from error
    try:
        found = Session(profile=profile).get_credentials()
    except BotoCoreError as error:
        raise InputError(f"AWS credentials: {error}") from error
    if found is None:
        raise InputError(
            "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name "
            "a profile with --aws-profile"
        )
    return Login(
        "refuses the AWS signature; check the AWS credentials, --aws-region, --aws-service and "
        "the access policy",
        sign=Urllib3AWSV4SignerAuth(found, region, service),
    )
