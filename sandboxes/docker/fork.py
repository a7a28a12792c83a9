"""Forks of containers without a copy: a snapshot's files below, and above them, in memory, what the fork writes.

The mounts stand on the host only until the container has them; its own mount namespace keeps what they show.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandboxes.inside.zygote_calls import MS_NODEV, MS_NOSUID, mount, unmount
from sandboxes.layers import Layer


def can_overlay(layer: Layer) -> bool:
    """Whether it is worth a try: only root may mount, and the files must be an owner's that a container can be."""
    return os.geteuid() == 0 and layer.uid is not None


@contextmanager
def overlay(layer: Layer, place: Path, size_bytes: int) -> Iterator[Path]:
    """A folder below `place` with the layer's files, which can be written to up to that size.

    Raises:
        OSError: this process may not mount, or the file systems here can't.
    """
    spot = place / "fork"
    top, work, merged = (spot / name for name in ("top", "work", "merged"))
    with ExitStack() as mounted:
        spot.mkdir()
        mount("envhub", str(spot), "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_bytes},mode=0755")
        mounted.callback(unmount, str(spot))
        for folder in (top, work, merged):
            folder.mkdir()
        top.chmod(0o1777)
        lower, upper, scratch = (mounted.enter_context(opened(folder)) for folder in (layer.folder, top, work))
        parts = f"lowerdir={lower},upperdir={upper},workdir={scratch}"
        mount("envhub", str(merged), "overlay", MS_NOSUID | MS_NODEV, parts)
        mounted.callback(unmount, str(merged))
        yield merged


@contextmanager
def opened(folder: Path) -> Iterator[str]:
    """A path to a folder that holds nothing which separates mount options, and tells nobody where it lies."""
    fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
