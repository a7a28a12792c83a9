"""Servers for other machines: TLS, certificates of clients and tokens, from the command line."""

import os
import ssl
from pathlib import Path

import httpx
import pytest

from envhub.app.access import VARIABLES, forget_tokens, read_access
from envhub.cli.access_options import access
from envhub.contracts.access import Rates, Role, TlsFiles, Token
from envhub.contracts.pause import Scope
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.remote_control import RemoteControl
from tests.cli.command import Command, started
from tests.feed.certificates import Authority

PORTS = ("--dashboard-port", "0", "--gateway-port", "0", "--feed-port", "0")
SERVE = ("serve", "envhub/arithmetic-v0", "-k", "2", "--engine", "scripted", *PORTS)
TRAINER, VIEWER, OPERATOR, AGENT = (f"a-secret-of-the-{role}" for role in ("trainer", "viewer", "operator", "agent"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_servers_beyond_loopback_speak_tls_and_ask_for_tokens(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENVHUB_TRAINER_TOKEN", TRAINER)
    certificate, key = authority.files("server")
    (tmp_path / "tokens").write_text(f"viewer {VIEWER}\n\n# and of people\noperator {OPERATOR} ana\nagent {AGENT}\n")
    tls = ("--cert", str(certificate), "--key", str(key), "--client-ca", str(authority.file), "--tokens", "tokens")
    with started(tmp_path, *SERVE, "--host", "0.0.0.0", "--feed-host", "0.0.0.0", *tls) as running:
        urls = {name: url.replace("0.0.0.0", "127.0.0.1") for name, url, *_ in (running.line().split() for _ in "123")}
        shown = ClientTls(authority.pem, *authority.issue("trainer"))
        with pytest.raises(FeedUnavailable):
            FeedClient(urls["feed"], consumer="bare", token=TRAINER, tls=ClientTls(authority.pem), reconnect_s=0.3)
        with pytest.raises(UsageError, match="wrong or missing token"):
            FeedClient(urls["feed"], consumer="unknown", token="guessed", tls=shown)
        with FeedClient(urls["feed"], consumer="trainer", token=TRAINER, tls=shown) as feed:
            assert next(feed.groups()).ack()
        with RemoteControl(urls["feed"], token=VIEWER, tls=shown) as control:
            assert control.state().members.submitted == 2
            with pytest.raises(UsageError, match="of the role viewer"):
                control.abort(Scope())
        with RemoteControl(urls["feed"], token=OPERATOR, tls=shown) as control:
            control.abort(Scope())
        with httpx.Client(verify=ssl.create_default_context(cafile=authority.file)) as http:
            assert urls["dashboard"].startswith("https://")
            runs = f"{urls['dashboard']}/api/runs"
            assert [http.get(runs, headers=bearer(token)).status_code for token in ("", AGENT, VIEWER, OPERATOR)] == [
                *(401, 403, 200, 200)
            ]
            (run,) = http.get(runs, headers=bearer(VIEWER)).json()
            acts = http.get(f"{runs}/{run['run_id']}/audit", headers=bearer(VIEWER)).json()
            session = f"{urls['gateway'].removesuffix('/v1')}/envhub/v1/sessions"
            body = {"environment": "envhub/arithmetic-v0", "task": 0}
            assert http.post(session, json=body, headers=bearer(VIEWER)).status_code == 403
            opened = http.post(session, json=body, headers=bearer(AGENT))
            assert (opened.status_code, opened.json()["base_url"]) == (201, urls["gateway"])
    assert [(act["action"], act["operator"], act["role"], act["via"], bool(act["refused"])) for act in acts] == [
        ("abort", "ana", "operator", "feed", False),
        ("abort", "viewer", "viewer", "feed", True),
    ]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def test_servers_beyond_loopback_are_refused_before_anything_starts(envhub: Command, tmp_path: Path):
    feed = ("run", "envhub/arithmetic-v0", "--feed", "0.0.0.0:0")
    for arguments in (feed, (*SERVE, "--feed-host", "0.0.0.0"), (*SERVE, "--host", "0.0.0.0")):
        answer = envhub(*arguments)
        assert answer.code == 2
        assert "can be reached from outside, which needs a token and TLS" in answer.err
    assert not (tmp_path / "envhub.db").exists()


def test_tokens_come_from_variables_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_TOKEN", "all")
    monkeypatch.setenv("ENVHUB_TRAINER_TOKEN", "")  # as an unset one in many a shell script
    file = tmp_path / "tokens"
    file.write_text("trainer  learn\ntrainer other boris\n")
    assert access(str(file), "", "", "", proxied=True, rates=["submit=9"]).tokens == (
        Token("all", Role.OPERATOR),
        Token("learn", Role.TRAINER),
        Token("other", Role.TRAINER, "boris"),
    )
    assert access("", "", "", "", proxied=False, rates=["submit=9"]).rates == Rates(submit=9)


def test_tokens_are_taken_out_of_the_environment_that_children_inherit(monkeypatch: pytest.MonkeyPatch):
    for variable in VARIABLES:
        monkeypatch.setenv(variable, variable)
    assert len(read_access().tokens) == len(VARIABLES)
    forget_tokens()
    assert not set(VARIABLES) & set(os.environ)


@pytest.mark.parametrize("line", ["root secret", "secret", "trainer secret boris twice"])
def test_tokens_that_cannot_be_read_are_refused_and_not_shown(tmp_path: Path, line: str):
    (tmp_path / "tokens").write_text(f"viewer fine\n{line}\n")
    with pytest.raises(UsageError, match=r"line 2 .* must read ROLE TOKEN or ROLE TOKEN NAME") as refused:
        read_access(str(tmp_path / "tokens"))
    assert "secret" not in str(refused.value)


def test_token_of_two_roles_is_refused_and_not_shown(tmp_path: Path):
    (tmp_path / "tokens").write_text("viewer secret\ntrainer secret\n")
    with pytest.raises(UsageError, match="given twice, for trainer and viewer") as refused:
        read_access(str(tmp_path / "tokens"))
    assert "secret" not in str(refused.value)


def test_certificates_that_cannot_serve_are_refused(authority: Authority, tmp_path: Path):
    certificate, key = map(str, authority.files("server"))
    _, other_key = map(str, authority.files("other"))
    nothing, absent = tmp_path / "nothing.pem", str(tmp_path / "absent.pem")
    nothing.write_bytes(b"\xff\xfe")
    refused = {
        (certificate, "", "", False): "give the other one",
        ("", "", certificate, False): "needs both",
        (absent, key, "", False): "can't be read: No such file",
        (certificate, other_key, "", False): "private key that belongs to it",
        (certificate, key, str(nothing), False): "holds no certificates",
        (certificate, key, "", True): "leave it out",
    }
    for (cert, its_key, client_ca, proxied), rule in refused.items():
        with pytest.raises(UsageError, match=rule):
            access("", cert, its_key, client_ca, proxied=proxied, rates=[])
    assert read_access(tls=TlsFiles(certificate, key)).tls == TlsFiles(certificate, key)


def test_certificates_without_a_feed_for_others_are_refused(envhub: Command):
    answer = envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", "--behind-proxy")
    assert answer.code == 2
    assert "say where it is with --feed" in answer.err
