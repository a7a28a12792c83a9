"""The client in a process of its own, as a trainer has it: killed, served over TLS, and as the example in docs."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from envhub.contracts.access import Role, TlsFiles
from envhub.errors import FeedUnavailable
from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.server import serve
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from tests.guarding import guard

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
TOKEN = "a-secret-of-trainers"
SECRET = {TOKEN: Role.TRAINER}

HOLD = """
import sys, time
from envhub.feed.client import FeedClient

with FeedClient(sys.argv[1], consumer="doomed") as feed:
    for lease in feed.groups(credit=2):
        print(lease.group_id, flush=True)
        time.sleep(600)
"""

LIGHT = """
import sys
import envhub.feed.client
heavy = {"anyio", "msgspec", "sqlalchemy", "fastapi", "envhub.registry"} & set(sys.modules)
assert not heavy, heavy
"""


def consume(address: str, **options) -> list[str]:
    with FeedClient(address, consumer="survivor", **options) as feed:
        return [lease.group_id for lease in feed.groups() if lease.ack()]


async def test_groups_of_a_killed_trainer_go_to_another():
    run = FakeDeliveries([closed_group(0), closed_group(1), closed_group(2)])
    async with serve(run, run) as address:
        async with await anyio.open_process([sys.executable, "-c", HOLD, address], cwd=ROOT) as doomed:
            assert (await doomed.stdout.receive()).decode().strip() == "run-0"
            await run.until(lambda: len(run.leased) == 2)
            doomed.kill()
        with anyio.fail_after(10):
            seen = await anyio.to_thread.run_sync(consume, address)
    assert sorted(seen) == ["run-0", "run-1", "run-2"]
    assert sorted(run.returned) == [("run-0", "disconnected"), ("run-1", "disconnected")]
    assert sorted(run.acked) == sorted(seen)
    assert run.consumers == ["doomed"] * 2 + ["survivor"] * 3


async def test_client_imports_nothing_that_a_trainer_would_have_to_install():
    await anyio.run_process([sys.executable, "-c", LIGHT], cwd=ROOT)


@pytest.fixture
def identity(tmp_path) -> TlsFiles:
    """A certificate of 127.0.0.1 that vouches for itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=feed"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    return TlsFiles(str(certificate), str(key))


async def test_feed_for_other_machines_is_served_over_tls(identity):
    run = FakeDeliveries([closed_group(0)])
    async with serve(run, run, host="0.0.0.0", guard=guard(SECRET, identity)) as bound:
        address = f"127.0.0.1:{bound.rpartition(':')[2]}"
        with pytest.raises(FeedUnavailable):
            await anyio.to_thread.run_sync(partial(consume, address, token=TOKEN, reconnect_s=0.2))
        options = {"token": TOKEN, "tls": ClientTls(await anyio.Path(identity.certificate).read_bytes())}
        assert await anyio.to_thread.run_sync(partial(consume, address, **options)) == ["run-0"]


async def run_example(address: str, **options) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "docs/examples/trainer_client.py", address]
    return await anyio.run_process(command, cwd=ROOT, **options)


async def test_example_trainer_drains_a_run_and_reports_it():
    run = FakeDeliveries([closed_group(0, [0, 1], sampled=4), closed_group(1, [1, 1, 0.5], sampled=8)])
    async with serve(run, run) as address:
        lines = (await run_example(address)).stdout.decode().splitlines()
    assert lines[0] == "on-policy: the new logprobs are the recorded ones, no weights are trained"
    assert lines[1].split() == ["group", "task", "members", "rows", "tokens", "reward", "loss", "version"]
    assert lines[2].split() == ["0", "task", "0", "2/2", "2", "8", "0.500", "0.00000", "0"]
    assert lines[3].split()[3:6] == ["3/3", "3", "24"]
    assert lines[4].startswith("drained: 2 groups, 5 rows, 32 trainable tokens, mean reward 0.700, mean loss")
    assert run.acked == ["run-0", "run-1"]


async def test_example_trainer_without_a_valid_token_says_why():
    run = FakeDeliveries([closed_group(0)])
    async with serve(run, run, guard=guard(SECRET)) as address:
        result = await run_example(address, check=False)
    assert result.returncode == 1
    assert b"error: the feed at" in result.stderr
    assert b"wrong or missing token" in result.stderr
