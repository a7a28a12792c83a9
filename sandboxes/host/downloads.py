"""What is copied out of a sandbox. The inside is not trusted: neither names, links and permissions, nor sizes."""

import os
import secrets
from pathlib import Path

from envhub.errors import UsageError
from sandboxes.inside.files import remove_tree
from sandboxes.inside.trees import HERE
from sandboxes.inside.unpacker import Unpacker


class Download:
    """A new file or folder that appears at its place when it is complete, and leaves nothing otherwise."""

    def __init__(self, target: Path, max_bytes: int) -> None:
        """
        Raises:
            UsageError: the target exists, or its folder does not.
        """
        if os.path.lexists(target):
            raise UsageError(f"'{target}' exists; name a new path to download to")
        if not target.parent.is_dir():
            raise UsageError(f"there is no folder '{target.parent}' to download to; make it first")
        self._target = target
        self._scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        self._scratch.mkdir(mode=0o700)
        root = os.open(self._scratch, HERE)
        try:
            self._unpacker = Unpacker(root, fresh=True, room=max_bytes, keep_link=stays_inside, unlock=True)
        finally:
            os.close(root)

    def feed(self, data: bytes) -> None:
        """
        Raises:
            OSError, Unfit: it can't be written, or breaks a rule.
        """
        self._unpacker.feed(data)

    def finish(self, *, folder: bool) -> None:
        """Puts it in its place.

        Raises:
            OSError, Unfit: as feed().
        """
        self._unpacker.finish()
        if folder:
            self._scratch.chmod(0o755)
            self._scratch.rename(self._target)
        else:
            (self._scratch / "file").rename(self._target)

    def close(self) -> None:
        """Removes what is not in its place."""
        self._unpacker.close()
        remove_tree(str(self._scratch))


def stays_inside(path: bytes, target: bytes) -> bool:
    """Whether a link ends below the folder that it is in: `..` leads only as far up, and only at its beginning, for a
    part before it could be another link."""
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = 0
    while up < len(parts) and parts[up] == b"..":
        up += 1
    return bool(target) and not target.startswith(b"/") and up <= path.count(b"/") and b".." not in parts[up:]
