"""FileBytes: what stores keep apart from the records that name it by its hash."""


class FileBytes(bytes):
    """The bytes of a file: of a picture, or of what is known of tokens."""

    __slots__ = ()
