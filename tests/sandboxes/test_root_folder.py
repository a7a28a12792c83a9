"""A root file system's folder is checked before anything is started in it, and its links never lead out of it."""

from pathlib import Path

import pytest

from envhub.errors import UsageError
from sandboxes.bubblewrap.root_folder import RootFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    return tmp_path


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o755)


def test_engines_image_name_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"'python:3\.12' is an engine's name; .*docker export.*docker back end"):
        RootFolder.at("python:3.12")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"'{tmp_path}/none' is not a folder"):
        RootFolder.at(f"{tmp_path}/none")


def test_folder_without_usr_is_no_root_file_system(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no /usr"):
        RootFolder.at(str(tmp_path))


def test_folder_without_python_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"has no Python.*install python3"):
        RootFolder.at(str(folder))


def test_python_that_is_no_program_does_not_count(folder: Path) -> None:
    (folder / "usr" / "bin" / "python3").touch(0o644)
    with pytest.raises(UsageError, match="has no Python"):
        RootFolder.at(str(folder))


def test_version_is_read_from_the_programs_name(folder: Path) -> None:
    program(folder / "usr" / "bin" / "python3.12")
    (folder / "usr" / "bin" / "python3").symlink_to("python3.12")
    found = RootFolder.at(str(folder))
    assert (found.python, found.version) == ("/usr/bin/python3", (3, 12))


def test_python_too_old_is_refused(folder: Path) -> None:
    program(folder / "usr" / "bin" / "python3.7")
    (folder / "usr" / "bin" / "python3").symlink_to("python3.7")
    with pytest.raises(UsageError, match=r"has python3\.7; the agent needs Python 3\.8 or newer"):
        RootFolder.at(str(folder))


def test_links_are_followed_within_the_folder(folder: Path) -> None:
    program(folder / "opt" / "python")
    (folder / "alternatives").mkdir()
    (folder / "alternatives" / "python3").symlink_to("/opt/python")
    (folder / "usr" / "bin" / "python3").symlink_to("../../../../alternatives/python3")
    assert RootFolder.at(str(folder)).version is None


@pytest.mark.parametrize("target", ["/bin/sh", "../../../../../../../../bin/sh", "python3"])
def test_links_that_lead_out_or_nowhere_find_nothing(folder: Path, target: str) -> None:
    (folder / "usr" / "bin" / "python3").symlink_to(target)
    with pytest.raises(UsageError, match="has no Python"):
        RootFolder.at(str(folder))


def test_places_of_the_sandbox_are_not_shown(folder: Path) -> None:
    program(folder / "usr" / "bin" / "python3")
    for name in ("etc", "proc", "tmp", "workspace"):
        (folder / name).mkdir()
    assert [entry.name for entry in RootFolder.at(str(folder)).entries()] == ["etc", "usr"]
