"""A run that knows secrets writes none of them, wherever they turn up: tokens, keys of sessions, private keys."""

import ssl
from pathlib import Path

import httpx
import pytest

from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.remote_control import RemoteControl
from tests.cli.command import Command, Program, started
from tests.feed.certificates import Authority

TOKENS = {role: f"{role}-53cret-0f-th1s-run" for role in ("operator", "trainer", "viewer", "agent")}
GUESSED = "gu3ssed-by-a-str4nger"
SERVE = ("serve", "envhub/arithmetic-v0", "--engine", "scripted", "--keep-calls", "--run-id", "kept")
PORTS = ("--dashboard-port", "0", "--gateway-port", "0", "--feed-port", "0")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def processes(root: int) -> list[int]:
    """A process and all that descend from it."""
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *(process for child in children for process in processes(int(child)))]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux shows them")
def test_nothing_that_a_run_writes_or_shows_holds_a_secret(
    tmp_path: Path, program: Command, monkeypatch: pytest.MonkeyPatch
):
    secret_files = tmp_path / "secrets"
    secret_files.mkdir()
    authority = Authority(secret_files)
    certificate, key = authority.files("server")
    tokens = secret_files / "tokens"
    tokens.write_text(f"operator {TOKENS['operator']} ana\nviewer {TOKENS['viewer']}\nagent {TOKENS['agent']}\n")
    monkeypatch.setenv("ENVHUB_TRAINER_TOKEN", TOKENS["trainer"])
    place = tmp_path / "place"
    place.mkdir()
    access = ("--tokens", str(tokens), "--cert", str(certificate), "--key", str(key))
    with started(place, *SERVE, *PORTS, *access) as running:
        urls = {name: url for name, url, *_ in (running.line().split() for _ in range(3))}
        keys = use(urls, authority)
        shown = what_processes_show(running)
        answer = running.interrupt()
    acts = program("trace", "acts", "kept", "--database", str(place / "envhub.db"), "--json")
    private = key.read_text().splitlines()[1]
    secrets = [*TOKENS.values(), GUESSED, *keys, private]
    written = {str(file): file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert any("envhub.db" in name for name in written)
    said = {"stdout": answer.out, "stderr": answer.err, "acts": acts.out, **shown}
    for secret in secrets:
        assert not [name for name, data in written.items() if secret.encode() in data]
        assert not [name for name, text in said.items() if secret in text]
    assert [(act["operator"], act["action"], act["via"]) for act in acts.json["acts"]] == [
        ("127.0.0.1", "drain", "feed"),
        ("127.0.0.1", "limit", "dashboard"),
        ("ana", "limit", "dashboard"),
        ("this machine", "stop", "signal"),
    ]


def use(urls: dict[str, str], authority: Authority) -> list[str]:
    """Does all that takes a secret, with right ones, wrong ones, and ones in wrong places. The keys that it got."""
    tls = ClientTls(authority.pem)
    with httpx.Client(verify=ssl.create_default_context(cafile=authority.file), timeout=30) as http:
        gateway, dashboard = urls["gateway"].removesuffix("/v1"), urls["dashboard"]
        with FeedClient(urls["feed"], consumer="trainer", token=TOKENS["trainer"], tls=tls) as feed:
            next(feed.groups(credit=1)).ack()
        with RemoteControl(urls["feed"], token=GUESSED, tls=tls) as control, pytest.raises(ValueError, match="wrong"):
            control.drain()
        limit = f"{dashboard}/api/runs/kept/limit"
        for token in (GUESSED, TOKENS["operator"]):
            http.post(limit, json={"confirm": "kept", "max_running": 8}, headers=bearer(token))
        for path in ("/api/runs", f"/{TOKENS['viewer']}", f"/api/{GUESSED}"):
            http.get(f"{dashboard}{path}", params={"token": TOKENS["viewer"]}, headers=bearer(TOKENS["viewer"]))
        body = {"environment": "envhub/arithmetic-v0", "task": 0}
        session = http.post(f"{gateway}/envhub/v1/sessions", json=body, headers=bearer(TOKENS["agent"])).json()
        key, call = session["api_key"], {"model": "m", "messages": session["messages"]}
        gemini = {"contents": [{"role": "user", "parts": [{"text": "2"}]}]}
        assert http.post(f"{gateway}/v1/chat/completions", json=call, headers=bearer(key)).status_code == 200
        assert http.post(f"{gateway}/r/{key}/v1/chat/completions", json=call).status_code == 200
        model = f"{gateway}/v1beta/models/m:generateContent"
        assert http.post(model, params={"key": key}, json=gemini).status_code == 200
        http.post(f"{gateway}/v1/chat/completions", json=call, headers={"x-api-key": GUESSED, **bearer(GUESSED)})
        finish = f"{gateway}/envhub/v1/sessions/{session['rollout_id']}/finish"
        assert http.post(finish, json={"answer": "4"}, headers=bearer(key)).status_code == 200
    return [key]


def what_processes_show(running: Program) -> dict[str, str]:
    """Command lines and titles of all its processes, and of those that it started their environments too."""
    found = processes(running.process.pid)
    shown = {f"command line of {one}": Path(f"/proc/{one}/cmdline").read_text() for one in found}
    shown |= {f"title of {one}": Path(f"/proc/{one}/comm").read_text() for one in found}
    started_by_it = [one for one in found if one != running.process.pid]
    return shown | {f"environment of {one}": Path(f"/proc/{one}/environ").read_text() for one in started_by_it}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux shows them")
def test_what_a_run_starts_inherits_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_TOKEN", TOKENS["operator"])
    with started(tmp_path, *SERVE, *PORTS, "--workers", "1") as running:
        running.line()
        shown = what_processes_show(running)
        running.interrupt()
    environments = [text for name, text in shown.items() if name.startswith("environment")]
    assert any("PATH=" in text for text in environments)
    assert not [name for name, text in shown.items() if TOKENS["operator"] in text]
