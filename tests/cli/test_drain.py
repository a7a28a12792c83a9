"""`envhub serve` that is told to end: it drains, and its next start goes on with nothing lost or done twice."""

import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from envhub.contracts.members import MemberCounts, MemberState
from envhub.feed.client import FeedClient
from tests.cli.command import WORLDS, Command, Program, members, started, wait_for
from tests.rollouts.ray_clusters import cluster

SERVE = ("serve", "--load", WORLDS, "--engine", "scripted", "--run-id", "mine", "-k", "2")
PORTS = ("--dashboard-port", "0", "--gateway-port", "0", "--feed-port", "0")
QUICK_S, PATIENCE_S = 30.0, 60.0


def all_run(counts: MemberCounts) -> bool:
    return counts.of(MemberState.RUNNING) == counts.submitted > 0


def addresses(running: Program) -> dict[str, str]:
    """What it announces, by name."""
    words = [running.line().split() for _ in range(3)]
    return {name: address.removesuffix("/v1") for name, address, *_ in words}


def health(url: str, path: str) -> tuple[int, str]:
    answer = httpx.get(f"{url}{path}", timeout=QUICK_S)
    return answer.status_code, answer.json()["status"]


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_what_runs_may_finish_and_the_next_start_goes_on(tmp_path: Path, program: Command):
    with started(tmp_path, *SERVE, *PORTS, "test/held-v0", "-n", "4", "--drain", "3600") as running:
        urls = addresses(running)
        wait_for(tmp_path / "envhub.db", "mine", all_run)
        for server in ("dashboard", "gateway"):
            assert health(urls[server], "/readyz") == (200, "ok")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: health(urls["dashboard"], "/readyz")[0] == 503)
        assert health(urls["gateway"], "/readyz") == (503, "the run is draining")
        assert health(urls["dashboard"], "/healthz") == health(urls["gateway"], "/healthz") == (200, "ok")
        (tmp_path / "go").touch()
        answer = running.end()
    assert answer.code == 0
    left = members(tmp_path / "envhub.db", "mine")
    assert left.of(MemberState.SCORED) == left.submitted == 8  # none was cut

    resume = answer.out.partition("next:\n")[2].splitlines()[0].split("  ")[1]
    with started(tmp_path, *shlex.split(resume)[1:]) as running:
        with FeedClient(addresses(running)["feed"], consumer="trainer") as feed:
            groups = feed.groups(credit=4)
            leases = [next(groups) for _ in range(4)]
            assert len({lease.group.group_id for lease in leases}) == 4
            assert all(lease.ack() for lease in leases)
        answer = running.interrupt()
    assert answer.code == 0
    assert "8 submitted = 8 acked + 0 failed + 0 cancelled" in answer.out
    assert program("verify").code == 0


def test_a_second_signal_ends_the_drain(tmp_path: Path):
    with started(tmp_path, *SERVE, *PORTS, "test/held-v0", "--drain", "3600") as running:
        addresses(running)
        wait_for(tmp_path / "envhub.db", "mine", all_run)
        assert running.process.stderr
        running.process.send_signal(signal.SIGTERM)
        assert any("draining" in line for line in running.process.stderr)
        running.process.send_signal(signal.SIGTERM)
        answer = running.end()
    assert answer.code == 0
    left = members(tmp_path / "envhub.db", "mine")
    assert left.conserved
    assert not left.of(MemberState.RUNNING)


@pytest.mark.ray
def test_what_runs_on_ray_may_finish_however_long_it_takes(tmp_path: Path):
    with cluster() as nodes:
        ray = ("--workers", "1", "--ray", nodes.address, "--worker-needs", "CPU=0.5")
        job = ("test/slow-v0", "-n", "2", "--max-running", "1", "--drain", "600")  # longer than Ray waits on a signal
        with started(tmp_path, *SERVE, *PORTS, *job, *ray) as running:
            wait_for(tmp_path / "envhub.db", "mine", lambda counts: counts.of(MemberState.RUNNING) > 0)
            running.process.send_signal(signal.SIGTERM)
            answer = running.end()
    assert answer.code == 0, answer.err
    assert members(tmp_path / "envhub.db", "mine").of(MemberState.SCORED) == 4


@pytest.mark.parametrize("more", [("--keep-calls",), ("--cap", "test/slow-v0=2", "--cap", "test/held-v0=3")])
def test_the_command_that_goes_on_says_all_again_but_the_job(tmp_path: Path, more: tuple[str, ...]):
    with started(tmp_path, *SERVE, *PORTS, "test/held-v0", "--max-turns", "3", *more) as running:
        addresses(running)
        wait_for(tmp_path / "envhub.db", "mine", all_run)
        answer = running.interrupt()
    said = shlex.split(answer.out.partition("next:\n")[2].splitlines()[0].split("  ")[1])[1:]
    assert said[:3] == ["serve", "--run-id", "mine"]
    assert {"--load", WORLDS, "--engine", *PORTS, *more} <= set(said)
    assert not {"test/held-v0", "--max-turns", "-k", "--k"} & set(said)
