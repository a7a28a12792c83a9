"""An overlay shows a snapshot's files, holds what is written over them within bounds, and leaves nothing mounted."""

import os
from pathlib import Path

import pytest

from sandboxes import reaper
from sandboxes.docker.fork import can_overlay, overlay
from sandboxes.layers import Layer

MB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def layer() -> Layer:
    layer = Layer("docker", 1000)
    (layer.folder / "file").write_text("old")
    return layer


def test_what_is_written_stays_out_of_the_snapshot(layer: Layer, tmp_path: Path) -> None:
    assert can_overlay(layer)
    with overlay(layer, tmp_path, MB) as merged:
        assert (merged / "file").read_text() == "old"
        (merged / "file").write_text("new")
        (merged / "other").write_text("x")
        with pytest.raises(OSError, match="No space left"):
            (merged / "big").write_bytes(bytes(2 * MB))
    assert (layer.folder / "file").read_text() == "old"
    assert [path.name for path in layer.folder.iterdir()] == ["file"]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_overlay_that_fails_half_way_leaves_nothing_mounted(layer: Layer, tmp_path: Path) -> None:
    layer.folder = layer.folder / "gone"
    with pytest.raises(FileNotFoundError), overlay(layer, tmp_path, MB):
        pass
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_files_of_nobody_else_are_copied_instead() -> None:
    assert not can_overlay(Layer("docker", None))


def test_reaper_lets_go_of_mounts_before_it_removes_files(layer: Layer, tmp_path: Path) -> None:
    owner = tmp_path / "1-dead"
    owner.mkdir()
    mounted = overlay(layer, owner, MB)
    mounted.__enter__()  # and its owner is killed now
    assert reaper.cleared(str(owner))
    assert not owner.exists()
    assert (layer.folder / "file").read_text() == "old"
    with pytest.raises(OSError, match="umount"):
        mounted.__exit__(None, None, None)
