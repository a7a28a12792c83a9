"""A hostile inside can't write outside of a download, whatever stream it sends, and what it sends is bounded."""

import os
from pathlib import Path

import pytest

from envhub.errors import UsageError
from sandboxes.host.downloads import Download, stays_inside
from sandboxes.inside.trees import ENTRY, FILE, FOLDER, LINK, TooLarge, Unfit, entry, pack


def stream(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    return b"".join(entry(kind, path, 0o777, len(content)) + content for kind, path, content in entries)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def download(folder: Path, data: bytes, *, step: int = 1 << 20, max_bytes: int = 10_000) -> None:
    copy = Download(folder / "target", max_bytes)
    try:
        for start in range(0, len(data), step):
            copy.feed(data[start : start + step])
        copy.finish(folder=True)
    finally:
        copy.close()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_stream_may_come_in_parts_of_any_size(tmp_path: Path, step: int) -> None:
    data = stream((FOLDER, b"a", b""), (FILE, b"a/b", b"content"), (FILE, b"none", b""), (LINK, b"a/l", b"b"))
    download(tmp_path, data, step=step)
    assert names(tmp_path) == ["target", "target/a", "target/a/b", "target/a/l", "target/none"]
    assert (tmp_path / "target/a/l").read_text() == "content"


@pytest.mark.parametrize(
    "path", [b"../x", b"a/../../x", b"/x", b"", b".", b"a//b", b"./x", b"a\0b", b"d/" * 200 + b"x"]
)
@pytest.mark.parametrize("kind", [FILE, FOLDER, LINK])
def test_names_that_lead_out_are_refused(tmp_path: Path, path: bytes, kind: bytes) -> None:
    with pytest.raises(Unfit, match="out of the folder"):
        download(tmp_path, stream((kind, path, b"")))
    assert names(tmp_path) == []


def test_nothing_is_written_through_a_link_of_the_stream(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    for target in (os.fsencode(outside), b"../../outside", b"."):
        with pytest.raises(OSError, match="No such file"):
            download(folder, stream((LINK, b"l", target), (FILE, b"l/x", b"x")))
    assert names(outside) == names(folder) == []


@pytest.mark.parametrize(
    "data",
    [
        stream((FILE, b"a", b"whole"))[:-1],
        stream((FILE, b"a", b"x"))[:5],
        ENTRY.pack(b"?", 1, 0, 0) + b"a",
        stream((FILE, b"a", b""), (FOLDER, b"a/b", b"")),
        stream((FILE, b"a", b""), (FILE, b"a", b"")),
        stream((FILE, b"no/folder", b"")),
        ENTRY.pack(LINK, 1, 0, 1 << 40) + b"l",
    ],
)
def test_broken_stream_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises((Unfit, OSError)):
        download(tmp_path, data)
    assert names(tmp_path) == []


def test_size_is_bounded_before_the_content_comes(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        download(tmp_path, ENTRY.pack(FILE, 1, 0, 1 << 62) + b"a")
    with pytest.raises(TooLarge):
        download(tmp_path, stream(*((FILE, b"%d" % number, b"") for number in range(20))))
    assert names(tmp_path) == []


def test_set_id_bits_and_locks_are_left_behind(tmp_path: Path) -> None:
    download(tmp_path, entry(FOLDER, b"d", 0, 0) + entry(FILE, b"d/f", 0o6000, 0))
    assert (tmp_path / "target/d").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "target/d/f").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        (b"l", b"x/y", True),
        (b"a/l", b"../x", True),
        (b"a/b/l", b"../../x", True),
        (b"l", b"./x//y/", True),
        (b"l", b"..", False),
        (b"a/l", b"../..", False),
        (b"l", b"x/../..", False),
        (b"l", b"x/..", False),
        (b"l", b"/x", False),
        (b"l", b"", False),
    ],
)
def test_links_stay_inside(path: bytes, target: bytes, inside: bool) -> None:
    assert stays_inside(path, target) is inside


def test_folders_nested_too_deep_are_refused_when_packed(tmp_path: Path) -> None:
    tmp_path.joinpath(*["d"] * 130).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_DIRECTORY)
    try:
        with pytest.raises(Unfit, match="deep"):
            list(pack(fd))
    finally:
        os.close(fd)


def test_target_must_be_new_and_its_folder_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        Download(tmp_path, 1)
    with pytest.raises(UsageError, match="no folder"):
        Download(tmp_path / "no" / "such", 1)
