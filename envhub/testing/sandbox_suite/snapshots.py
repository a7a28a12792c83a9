"""Snapshots: files at a moment, put back, and forked."""

from pathlib import Path

import anyio
import pytest

from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from envhub.contracts.session import Interpreter
from envhub.errors import SandboxFault, UsageError
from envhub.testing.sandbox_suite.base import SPEC, Base
from envhub.testing.sandbox_suite.tools import marked, new_mark, said, shell, until_marked

FILES = """
mkdir -p deep/er empty; echo one > file; echo two > deep/er/two; printf '#!/bin/sh\\necho ran\\n' > run; chmod 755 run
ln -s deep/er/two link; ln -s /etc/passwd far; head -c 300000 /dev/zero | tr '\\0' y > deep/large; chmod 400 deep/large
"""
LISTING = "find . | sort; cat file link; ./run; readlink far; stat -c %a deep/large run; md5sum < deep/large"


class ForeignSnapshot:
    """One that no back end made."""

    files = 0
    size_bytes = 0

    async def close(self) -> None:
        pass


class Snapshots(Base):
    """snapshot(), restore(), create() from files, save() and load()."""

    async def test_fork_starts_from_the_files(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        await shell(sandbox, FILES)
        before = await said(sandbox, LISTING)
        snapshot = await sandbox.snapshot()
        assert (snapshot.files, snapshot.size_bytes) == (4, 300_000 + 4 + 4 + 19)
        fork = await closing.create(SPEC, files=snapshot)
        assert await said(fork, LISTING) == before
        assert await said(sandbox, LISTING) == before

    async def test_forks_see_neither_each_other_nor_their_source(
        self, closing: SandboxBackend, sandbox: Sandbox
    ) -> None:
        await shell(sandbox, FILES)
        before = await said(sandbox, LISTING)
        snapshot = await sandbox.snapshot()
        forks = [await closing.create(SPEC, files=snapshot) for _ in range(3)]
        for number, fork in enumerate(forks):
            change = f"echo {number} > file; chmod 600 deep/large; echo {number} >> deep/large; mkdir mine-{number}"
            assert (await shell(fork, f"{change}; rm -r run deep/er")).stderr == b""
        for number, fork in enumerate(forks):
            assert await said(fork, "cat file; tail -c 2 deep/large; ls") == (
                f"{number}\n{number}\ndeep\nempty\nfar\nfile\nlink\nmine-{number}"
            )
        assert await said(sandbox, LISTING) == before
        later = await closing.create(SPEC, files=snapshot)
        assert await said(later, LISTING) == before

    async def test_snapshot_is_of_a_moment(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        await sandbox.write("file", b"then")
        snapshot = await sandbox.snapshot()
        await sandbox.write("file", b"now")
        assert await (await closing.create(SPEC, files=snapshot)).read("file") == b"then"

    async def test_snapshot_outlives_its_sandbox(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        await sandbox.write("file", b"x")
        snapshot = await sandbox.snapshot()
        await sandbox.close()
        assert await (await closing.create(SPEC, files=snapshot)).read("file") == b"x"

    async def test_processes_stand_still_and_go_on(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "(while :; do echo x >> a; echo x >> b; done) > /dev/null 2>&1 &")
        snapshots = [await sandbox.snapshot() for _ in range(3)]
        for snapshot in snapshots:
            await snapshot.close()
        before = int(await said(sandbox, "wc -c < a"))
        with anyio.fail_after(30):
            while int(await said(sandbox, "wc -c < a")) == before:
                pass

    async def test_snapshot_is_consistent(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        writer = "i=0; while :; do i=$((i+1)); echo $i > a; echo $i > b; done"
        await shell(sandbox, f"({writer}) > /dev/null 2>&1 & until [ -s b ]; do sleep 0.01; done")
        for _ in range(5):
            fork = await closing.create(SPEC, files=await sandbox.snapshot())
            first, second = (await said(fork, "cat a; echo /; cat b")).split("/")
            numbers = [int(text or -1) for text in (first.strip(), second.strip())]
            assert -1 in numbers or numbers[0] - numbers[1] in (0, 1)

    async def test_snapshot_skips_what_is_no_file(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        code = 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        await shell(sandbox, f"mkfifo pipe; echo x > file; cp /bin/true setid; chmod 4755 setid; python3 -c '{code}'")
        fork = await closing.create(SPEC, files=await sandbox.snapshot())
        assert await said(fork, "ls; stat -c %a setid") == "file\nsetid\n755"

    async def test_snapshot_takes_what_was_locked(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir shut; echo x > shut/file; chmod 0 shut/file shut")
        fork = await closing.create(SPEC, files=await sandbox.snapshot())
        assert await said(fork, "stat -c %a shut; chmod 700 shut; chmod 600 shut/file; cat shut/file") == "0\nx"
        assert await said(sandbox, "stat -c %a shut") == "0"

    async def test_restore_brings_the_files_back_and_ends_processes(self, sandbox: Sandbox) -> None:
        mark = new_mark()
        await shell(sandbox, FILES)
        before = await said(sandbox, LISTING)
        snapshot = await sandbox.snapshot()
        session = await sandbox.session(Interpreter.SHELL)
        await session.run("x=1")
        mess = "rm -rf deep; echo new > file; echo extra > extra; mkdir -p a/b/c; chmod 0 a; ln -sf / link"
        await shell(sandbox, f"{mess}; (setsid sleep {mark} > /dev/null 2>&1 &)")
        await until_marked(mark, 1)
        await sandbox.restore(snapshot)
        assert not marked(mark)
        assert await said(sandbox, LISTING) == before
        assert (await session.run("echo [$x]")).output == b"[]\n"

    async def test_restore_copes_with_folders_nested_very_deep(self, sandbox: Sandbox) -> None:
        empty = await sandbox.snapshot()
        await shell(sandbox, "i=0; while [ $i -lt 2000 ]; do mkdir d && cd d || break; i=$((i+1)); done; echo x > file")
        with pytest.raises((UsageError, SandboxFault), match="deep"):
            await sandbox.snapshot()
        await sandbox.restore(empty)
        assert await said(sandbox, "ls -A") == ""

    async def test_closed_snapshot_is_refused(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        snapshot = await sandbox.snapshot()
        await snapshot.close()
        await snapshot.close()
        with pytest.raises(UsageError, match="closed"):
            await sandbox.restore(snapshot)
        with pytest.raises(UsageError, match="closed"):
            await closing.create(SPEC, files=snapshot)

    async def test_closing_a_snapshot_spares_its_forks(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        await sandbox.write("file", b"x")
        snapshot = await sandbox.snapshot()
        fork = await closing.create(SPEC, files=snapshot)
        await snapshot.close()
        assert await fork.read("file") == b"x"

    async def test_foreign_snapshot_is_refused(self, closing: SandboxBackend, sandbox: Sandbox) -> None:
        with pytest.raises(UsageError, match="ForeignSnapshot"):
            await sandbox.restore(ForeignSnapshot())
        with pytest.raises(UsageError, match="ForeignSnapshot"):
            await closing.create(SandboxSpec(), files=ForeignSnapshot())

    async def test_saved_files_are_loaded_into_another_sandbox(
        self, closing: SandboxBackend, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        await shell(sandbox, FILES)
        before = await said(sandbox, LISTING)
        size = await sandbox.save(tmp_path / "saved")
        assert size == (tmp_path / "saved").stat().st_size > 300_000
        assert await said(sandbox, LISTING) == before
        await sandbox.close()
        other, mark = await closing.create(SPEC), new_mark()
        await shell(other, f"echo other > file; mkdir more; (setsid sleep {mark} > /dev/null 2>&1 &)")
        await until_marked(mark, 1)
        await other.load(tmp_path / "saved")
        assert not marked(mark)
        assert await said(other, LISTING) == before
        assert (await shell(other, "echo more >> file; rm -r deep")).stderr == b""

    async def test_saved_files_stay_as_they_were(self, sandbox: Sandbox, tmp_path: Path) -> None:
        await sandbox.write("file", b"then")
        await sandbox.save(tmp_path / "saved")
        await sandbox.write("file", b"now")
        with pytest.raises(UsageError, match="exists"):
            await sandbox.save(tmp_path / "saved")
        await sandbox.load(tmp_path / "saved")
        assert await sandbox.read("file") == b"then"
        assert [path.name async for path in anyio.Path(tmp_path).iterdir()] == ["saved"]

    async def test_what_was_not_saved_is_not_loaded(self, sandbox: Sandbox, tmp_path: Path) -> None:
        await sandbox.write("file", b"x")
        with pytest.raises(UsageError, match="can't load"):
            await sandbox.load(tmp_path / "absent")
        assert await sandbox.read("file") == b"x"

    async def test_closed_sandbox_has_no_snapshot(self, sandbox: Sandbox) -> None:
        snapshot = await sandbox.snapshot()
        await sandbox.close()
        with pytest.raises(SandboxFault, match="closed"):
            await sandbox.snapshot()
        with pytest.raises(SandboxFault, match="closed"):
            await sandbox.restore(snapshot)
