"""Forks of bubblewrap's sandboxes share one copy of the files below their own changes, which stay bounded."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envhub.contracts.sandbox import Sandbox, SandboxSpec, Snapshot
from envhub.errors import UsageError
from envhub.testing.sandbox_suite import shell
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.layers import Layer

pytestmark = [pytest.mark.anyio, pytest.mark.sandboxes]

FILES = (
    "mkdir -p folder/deep && echo one > folder/one && echo two > two && echo deep > folder/deep/file && ln -s two link"
)
LISTING = "find . -type f -o -type l | sort | while read file; do echo $file $(cat $file); done"
SMALL = SandboxSpec(disk_mb=2)


@pytest.fixture
async def backend() -> AsyncIterator[BubblewrapBackend]:
    made = BubblewrapBackend()
    if not (await made.probe()).works:
        pytest.skip("no bubblewrap here")
    yield made
    await made.aclose()


@pytest.fixture
async def source(backend: BubblewrapBackend) -> AsyncIterator[Sandbox]:
    sandbox = await backend.create(SandboxSpec())
    assert (await shell(sandbox, FILES)).exit_code == 0
    yield sandbox
    await sandbox.close()


@pytest.fixture
async def snapshot(source: Sandbox) -> AsyncIterator[Snapshot]:
    taken = await source.snapshot()
    yield taken
    await taken.close()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def said(sandbox: Sandbox, script: str) -> str:
    result = await shell(sandbox, script)
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


async def test_changes_of_a_fork_reach_neither_its_source_nor_its_siblings(
    backend: BubblewrapBackend, source: Sandbox, snapshot: Snapshot
) -> None:
    before = await said(source, LISTING)
    one = await backend.create(SandboxSpec(), files=snapshot)
    other = await backend.create(SandboxSpec(), files=snapshot)
    assert await said(one, LISTING) == before
    await said(
        one,
        "echo 1 >> folder/one; rm two; mv folder/deep/file moved; rm -r folder/deep; mkdir folder/deep; echo n > new",
    )
    assert await said(one, "ls folder/deep; cat folder/one moved; test ! -e two") == "one\n1\ndeep\n"
    for untouched in (source, other, await backend.create(SandboxSpec(), files=snapshot)):
        assert await said(untouched, LISTING) == before


async def test_files_of_a_fork_are_its_commands_own(backend: BubblewrapBackend, snapshot: Snapshot) -> None:
    fork = await backend.create(SandboxSpec(), files=snapshot)
    assert (
        await said(fork, "stat -c '%u %n' . folder folder/one link | sort -u -k1,1; chmod 700 folder; rm -r *; ls -A")
        == "1000 .\n"
    )


async def test_folders_of_a_fork_can_be_renamed(backend: BubblewrapBackend, snapshot: Snapshot) -> None:
    fork = await backend.create(SandboxSpec(), files=snapshot)
    assert (
        await said(fork, "mv folder other; mv other/deep other/low; cat other/low/file; ls")
        == "deep\nlink\nother\ntwo\n"
    )
    if os.geteuid() == 0:  # without a copy too: in an ordinary user's overlay rename(2) answers EXDEV, and mv copies
        assert await said(fork, 'python3 -c \'import os; os.rename("other", "again")\'; ls again') == "low\none\n"


async def test_what_a_fork_writes_is_bounded(backend: BubblewrapBackend, source: Sandbox) -> None:
    await said(source, "head -c 4000000 /dev/zero > large")
    snapshot = await source.snapshot()
    fork = await backend.create(SMALL, files=snapshot)
    await snapshot.close()
    full = await shell(fork, "wc -c < large; for i in 1 2; do head -c 1500000 /dev/zero > more$i; done")
    assert full.stdout == b"4000000\n"  # it is below, and costs the fork nothing
    assert b"No space left" in full.stderr
    assert (await shell(fork, "rm more*; echo x >> large")).exit_code != 0  # a change copies the whole file up first
    assert await said(fork, "rm large; echo small > large; cat large") == "small\n"


async def test_forks_share_one_copy_that_goes_with_the_last_of_them(
    backend: BubblewrapBackend, snapshot: Snapshot
) -> None:
    assert isinstance(snapshot, Layer)
    forks = [await backend.create(SandboxSpec(), files=snapshot) for _ in range(3)]
    copies = [path for path in snapshot.folder.parents[1].rglob("one") if path.is_file()]
    assert copies == [snapshot.folder / "folder" / "one"]
    await snapshot.close()
    for fork in forks:
        assert await said(fork, "cat folder/one") == "one\n"
        await fork.close()
    assert not snapshot.folder.exists()


async def test_fork_of_a_fork_has_the_changes_of_both(backend: BubblewrapBackend, snapshot: Snapshot) -> None:
    fork = await backend.create(SandboxSpec(), files=snapshot)
    await said(fork, "echo 2 >> two; rm folder/one")
    inner = await fork.snapshot()
    second = await backend.create(SandboxSpec(), files=inner)
    await inner.close()
    await fork.close()
    assert await said(second, "echo 3 >> two; cat two; ls folder") == "two\n2\n3\ndeep\n"


async def test_fork_of_a_closed_or_foreign_snapshot_is_refused(backend: BubblewrapBackend, snapshot: Snapshot) -> None:
    foreign = Layer("docker", None)
    with pytest.raises(UsageError, match="one of 'docker'"):
        await backend.create(SandboxSpec(), files=foreign)
    await foreign.close()
    await snapshot.close()
    with pytest.raises(UsageError, match="closed"):
        await backend.create(SandboxSpec(), files=snapshot)


async def test_host_keeps_no_mount_of_a_fork(backend: BubblewrapBackend, snapshot: Snapshot) -> None:
    before = mounts()
    fork = await backend.create(SandboxSpec(), files=snapshot)
    assert mounts() == before
    await fork.close()
