"""Who asks: the ways to log in to an engine, and what a request carries for each."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

from opensearchpy import Urllib3AWSV4SignerAuth

from latent_ingest.connector.errors import InputError


@dataclass(frozen=True, slots=True)
class Login:
    """What a request carries; neither part is ever shown."""

    refused: str
    """What to say, after the URL, when the engine takes it for nobody it knows."""
    header: str | None = field(default=None, repr=False)
    """Of the name Authorization."""
    sign: Callable[..., dict[str, str]] | None = field(default=None, repr=False)
    """Method, URL and body → headers, for each sending anew."""


NOBODY = Login("asks who you are; log in with --user, --api-key-env, --token-env or --aws-region")
CERTIFICATE = Login("takes the client certificate for nobody it knows; check --client-cert")


def basic(user: str, password: str) -> Login:
    """User name and password."""
    if ":" in user:
        raise InputError("a user name holds no ':'; give the password with --password-env")
    return Login(
        "refuses the user name or the password; check --user and --password-env or --password-file",
        "Basic " + b64encode(f"{user}:{password}".encode()).decode(),
    )


def api_key(key: str) -> Login:
    """An API key, in the encoded form that engines give out."""
    return Login(
        "refuses the API key; check --api-key-env or --api-key-file, and whether it has expired",
        f"ApiKey {sendable(key, 'API key')}",
    )


def bearer(token: str) -> Login:
    """A bearer token, such as a JWT."""
    return Login(
        "refuses the bearer token; check --token-env or --token-file, and whether it has expired",
        f"Bearer {sendable(token, 'token')}",
    )


def sendable(secret: str, name: str) -> str:
    """The secret, if a header can hold it; it is not repeated if not."""
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise InputError(f"the {name} is empty or holds blanks, line ends or other than ASCII")
    return secret


def aws(region: str, service: str, profile: str | None) -> Login:
    """AWS SigV4 with the credentials that botocore finds, refreshed by it when they expire.

    Raises:
        InputError: botocore is missing, or there are no credentials.
    """
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise InputError(
            "signing for AWS needs botocore; pip install 'latent-ingest[aws]' brings it"
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
