"""Text that UTF-8, and columns of databases, can carry."""


def well_formed(text: str) -> str:
    """The text with lone surrogates, which agents do send in JSON escapes and no UTF-8 can carry, made U+FFFD.

    The same as ECMA-262 String.prototype.toWellFormed: a pair of surrogates becomes the character it stands for.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def listed(text: str) -> str:
    """The text for a column: well formed, and with U+FFFD for NUL, which PostgreSQL's text can't hold. What was really
    said is in the events."""
    return well_formed(text).replace("\0", "\ufffd")
