"""The client alone, installed beside each protobuf and grpcio that trainers pin: the ends of the range, and between.

ENVHUB_INSTALL=1 python -m pytest tests/feed/test_protobuf_range.py
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from envhub.feed.server import serve
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.environ.get("ENVHUB_INSTALL") != "1",
        reason="ENVHUB_INSTALL=1 has it install the client into new environments, a minute each, from a package index",
    ),
]

ROOT = Path(__file__).parents[2]
LARGE = 200_000  # tokens of a row: its group comes in several parts
RANGE = [("5.29", "1.71.2"), ("6", ""), ("7", "")]  # of protobuf and of grpcio, "" the newest

TRAINER = """
import json, sys
import google.protobuf, grpc
import envhub.feed.client as client

with client.FeedClient(sys.argv[1], consumer="trainer", reconnect_s=5.0) as feed:
    feed.announce(1)
    groups = [
        (lease.group_id, [int(member.rows[0].row.ids.sum()) for member in lease.group.members], lease.ack())
        for lease in feed.groups()
    ]
heavy = sorted({"anyio", "msgspec", "sqlalchemy", "fastapi", "torch"} & set(sys.modules))
print(json.dumps([google.protobuf.__version__, grpc.__version__, client.__file__, heavy, groups]))
"""


async def run(*command: object, cwd: Path) -> str:
    return (await anyio.run_process([str(word) for word in command], cwd=cwd, stderr=None)).stdout.decode()


@pytest.fixture(scope="module")
async def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    await run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize(("protobuf", "grpcio"), RANGE)
async def test_client_alone_streams_groups_beside_that_protobuf(tmp_path: Path, wheel: Path, protobuf, grpcio):
    await run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    in_venv = partial(run, tmp_path / "venv/bin/python", cwd=tmp_path)
    pins = [f"protobuf=={protobuf}.*", f"grpcio=={grpcio}" if grpcio else "grpcio"]
    await in_venv("-m", "pip", "install", "-q", f"{wheel}[client]", *pins)
    deliveries = FakeDeliveries([closed_group(0, [0.0, 1.0], prompt=1, sampled=LARGE), closed_group(1)])
    async with serve(deliveries, deliveries) as address:
        said = await in_venv("-W", "error", "-c", TRAINER, address)
    its_protobuf, its_grpcio, file, heavy, groups = json.loads(said)
    assert its_protobuf.startswith(f"{protobuf}.")
    assert its_grpcio.startswith(grpcio)
    assert file.startswith(str(tmp_path))
    assert heavy == []
    assert groups == [["run-0", [LARGE * (LARGE + 1) // 2] * 2, True], ["run-1", [21, 21], True]]
    assert deliveries.acked == ["run-0", "run-1"]
