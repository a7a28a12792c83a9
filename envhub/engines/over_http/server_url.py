"""The URL of a server, checked; the key that the environment holds for its host; why it can't be reached."""

import os
import re
import ssl
from urllib.parse import urlsplit

from envhub.errors import UsageError


def checked_url(url: str, example: str) -> str:
    """The URL without a last slash.

    Raises:
        UsageError: it is none, or carries what must not be recorded with the run.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"url is '{url}'; it must read http[s]://HOST[:PORT], like {example}")
    if parts.username or parts.password or parts.query:
        rule = f"it is recorded with the run; put a key into {key_variable(url)} instead"
        raise UsageError(f"the url of {parts.hostname} carries a user, a password or a query; {rule}")
    return url.rstrip("/")


def key_variable(url: str) -> str:
    """The variable of the environment that holds the key for a URL's host: ENVHUB_KEY_API_OPENAI_COM."""
    return "ENVHUB_KEY_" + re.sub(r"\W", "_", urlsplit(url).hostname or "").upper()


def server_key(url: str) -> str:
    """The key for a URL's host; "": there is none."""
    return os.environ.get(key_variable(url), "")


def why(error: OSError) -> str:
    """In words, without numbers and names of classes."""
    match error:
        case TimeoutError():
            return "it takes too long"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ConnectionError() if error.errno:
            return os.strerror(error.errno).lower()
        case _:
            return error.strerror or str(error) or type(error).__name__
