"""A feed for other machines: TLS, certificates of clients and tokens, from the command line."""

from pathlib import Path

import pytest

from envhub.cli.feed_options import feed_access
from envhub.contracts.pause import Scope
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.access import FeedAccess, Role
from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.remote_control import RemoteControl
from tests.cli.command import Command, started
from tests.feed.certificates import Authority

PORTS = ("--dashboard-port", "0", "--gateway-port", "0", "--feed-port", "0")
SERVE = ("serve", "envhub/arithmetic-v0", "-k", "2", "--engine", "scripted", *PORTS)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("OBSERVER", "TRAINER", "OPERATOR"):
        monkeypatch.delenv(f"ENVHUB_FEED_{role}_TOKEN", raising=False)


def test_feed_beyond_loopback_asks_for_certificate_and_token(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENVHUB_FEED_TRAINER_TOKEN", "of-trainers")
    certificate, key = authority.files("server")
    (tmp_path / "tokens").write_text("observer of-viewers\n\noperator of-operators\n")
    tls = ("--feed-cert", str(certificate), "--feed-key", str(key), "--feed-client-ca", str(authority.file))
    with started(tmp_path, *SERVE, "--feed-host", "0.0.0.0", *tls, "--feed-tokens", "tokens") as running:
        lines = [running.line().split() for _ in range(3)]
        address = f"127.0.0.1:{dict(line[:2] for line in lines)['feed'].rpartition(':')[2]}"
        shown = ClientTls(authority.pem, *authority.issue("trainer"))
        with pytest.raises(FeedUnavailable):
            FeedClient(address, consumer="bare", token="of-trainers", tls=ClientTls(authority.pem), reconnect_s=0.3)
        with pytest.raises(UsageError, match="wrong or missing token"):
            FeedClient(address, consumer="unknown", token="guessed", tls=shown)
        with FeedClient(address, consumer="trainer", token="of-trainers", tls=shown) as feed:
            assert next(feed.groups()).ack()
        with RemoteControl(address, token="of-viewers", tls=shown) as control:
            assert control.state().members.submitted == 2
            with pytest.raises(UsageError, match="of the role observer"):
                control.abort(Scope())
        with RemoteControl(address, token="of-operators", tls=shown) as control:
            control.abort(Scope())


def test_feed_beyond_loopback_is_refused_before_anything_starts(envhub: Command, tmp_path: Path):
    for arguments in (("run", "envhub/arithmetic-v0", "--feed", "0.0.0.0:0"), (*SERVE, "--feed-host", "0.0.0.0")):
        answer = envhub(*arguments)
        assert answer.code == 2
        assert "can be reached from outside, which needs a token and TLS" in answer.err
    assert not (tmp_path / "envhub.db").exists()


def test_tokens_come_from_variables_a_file_and_the_platforms_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_FEED_OBSERVER_TOKEN", "see")
    monkeypatch.setenv("ENVHUB_FEED_TRAINER_TOKEN", "")  # as an unset one in many a shell script
    (tmp_path / "tokens").write_text("trainer  learn\ntrainer other\n")
    access = feed_access("", "", "", str(tmp_path / "tokens"), True, operator="all")
    roles = {"all": Role.OPERATOR, "see": Role.OBSERVER, "learn": Role.TRAINER, "other": Role.TRAINER}
    assert access == FeedAccess(roles, None, True)


@pytest.mark.parametrize("line", ["root secret", "secret", "trainer secret twice"])
def test_tokens_that_cannot_be_read_are_refused_and_not_shown(tmp_path: Path, line: str):
    (tmp_path / "tokens").write_text(f"observer fine\n{line}\n")
    with pytest.raises(UsageError, match=r"line 2 .* must read ROLE TOKEN") as refused:
        feed_access("", "", "", str(tmp_path / "tokens"), False)
    assert "secret" not in str(refused.value)


def test_token_of_two_roles_is_refused_and_not_shown(tmp_path: Path):
    (tmp_path / "tokens").write_text("observer secret\ntrainer secret\n")
    with pytest.raises(UsageError, match="for two roles, observer and trainer") as refused:
        feed_access("", "", "", str(tmp_path / "tokens"), False)
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
            feed_access(cert, its_key, client_ca, "", proxied)


def test_certificates_without_a_feed_for_others_are_refused(envhub: Command):
    answer = envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", "--feed-behind-proxy")
    assert answer.code == 2
    assert "say where it is with --feed" in answer.err
