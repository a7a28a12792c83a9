"""How a picture is sent to a server: inside its URL (RFC 2397)."""

from base64 import b64encode

from envhub.contracts.messages import Image


def data_url(image: Image) -> str:
    """The file itself, in base64."""
    return f"data:{image.media_type};base64,{b64encode(image.data).decode()}"
