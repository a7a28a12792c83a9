"""`envhub serve`: dashboard, gateway and feed of one run, until Ctrl-C."""

import time
from pathlib import Path

import httpx
import pytest

from envhub.contracts.members import MemberState
from envhub.feed.client import FeedClient
from tests.cli.command import WORLDS, Command, Program, members, started

SERVE = ("serve", "--engine", "scripted", "--dashboard-port", "0", "--gateway-port", "0", "--feed-port", "0")
QUICK_S = 60.0  # no hang, on a machine however slow


def addresses(running: Program) -> dict[str, str]:
    """What it announces, by name."""
    words = [running.line().split() for _ in range(3)]
    return {name: address for name, address, *_ in words}


def open_session(gateway: httpx.Client, task: int) -> dict:
    opened = gateway.post("/envhub/v1/sessions", json={"environment": "envhub/arithmetic-v0", "task": task})
    assert opened.status_code == 201
    return opened.json()


def play(gateway: httpx.Client, session: dict) -> dict:
    """An agent outside: asks the model and answers what it said."""
    headers = {"Authorization": f"Bearer {session['api_key']}"}
    body = {"model": "policy", "messages": session["messages"]}
    said = gateway.post(f"{session['base_url']}/chat/completions", json=body, headers=headers).raise_for_status().json()
    answer = {"answer": said["choices"][0]["message"]["content"]}
    finish = gateway.post(f"/envhub/v1/sessions/{session['rollout_id']}/finish", json=answer, headers=headers)
    return finish.raise_for_status().json()


def test_what_is_interrupted_before_it_began_says_so(tmp_path: Path):
    serve = ("serve", "test/slow-v0", "--load", WORLDS, "--engine", "sluggish", "--run-id", "mine")
    with started(tmp_path, *serve) as running:
        assert running.process.stderr is not None
        assert running.process.stderr.readline() == "loading\n"
        answer = running.interrupt()
    assert answer.err.endswith("nothing was started\n")


def test_dashboard_gateway_and_feed_serve_one_run(tmp_path: Path, program: Command):
    with started(tmp_path, *SERVE, "envhub/arithmetic-v0", "-k", "2") as running:
        urls = addresses(running)
        with httpx.Client(base_url=urls["gateway"].removesuffix("/v1"), timeout=QUICK_S) as gateway:
            ended = play(gateway, open_session(gateway, 0))
        assert ended["status"] == "completed"
        assert ended["reward"] in (0.0, 1.0)

        with FeedClient(urls["feed"], consumer="trainer") as feed:
            groups = feed.groups(credit=2)
            leases = [next(groups), next(groups)]
            assert sorted(len(lease.group.members) for lease in leases) == [1, 2]
            assert all(lease.ack() for lease in leases)

        page = httpx.get(f"{urls['dashboard']}/api/rollouts", timeout=QUICK_S).raise_for_status().json()
        assert page["total"] == 3
        assert ended["rollout_id"] in [rollout["rollout_id"] for rollout in page["rollouts"]]
        (run,) = httpx.get(f"{urls['dashboard']}/api/runs", timeout=QUICK_S).json()

        asked_at = time.monotonic()
        answer = running.interrupt()
        assert time.monotonic() - asked_at < QUICK_S
    assert answer.code == 0
    assert "members   3 submitted = 3 acked + 0 failed + 0 cancelled + 0 dropped" in answer.out
    assert f"(run {run['run_id']})" in answer.out
    assert "Traceback" not in answer.err
    assert program("verify").code == 0


def test_what_is_open_at_the_end_is_returned(tmp_path: Path, program: Command):
    with started(tmp_path, *SERVE, "envhub/arithmetic-v0", "-k", "2") as running:
        urls = addresses(running)
        with (
            httpx.Client(base_url=urls["gateway"].removesuffix("/v1"), timeout=QUICK_S) as gateway,
            FeedClient(urls["feed"], consumer="trainer", reconnect_s=0.1) as feed,
        ):
            open_session(gateway, 1)
            lease = next(feed.groups(credit=1))
            (run,) = httpx.get(f"{urls['dashboard']}/api/runs", timeout=QUICK_S).json()
            asked_at = time.monotonic()
            answer = running.interrupt()
            assert time.monotonic() - asked_at < QUICK_S
    assert answer.code == 0
    assert lease.group.run_id == run["run_id"]
    left = members(tmp_path / "envhub.db", run["run_id"])
    assert left.conserved
    assert not left.of(MemberState.LEASED)
    assert not left.of(MemberState.RUNNING)
    assert f"serve --run-id {run['run_id']} --engine scripted --dashboard-port 0" in answer.out
    assert program("verify").code == 0


def test_a_token_is_demanded_of_every_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_TOKEN", "secret")
    with started(tmp_path, *SERVE) as running:
        urls = addresses(running)
        body = {"environment": "envhub/arithmetic-v0", "task": 0}
        gateway = urls["gateway"].removesuffix("/v1")
        assert httpx.get(f"{urls['dashboard']}/api/runs", timeout=QUICK_S).status_code == 401
        assert httpx.post(f"{gateway}/envhub/v1/sessions", json=body, timeout=QUICK_S).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{urls['dashboard']}/api/runs", headers=headers, timeout=QUICK_S).status_code == 200
        answer = running.interrupt()
    assert answer.code == 0
    assert "secret" not in answer.out + answer.err
