"""Who may call what: tokens by role, certificates of clients; health and reflection; files by their hash."""

import hashlib
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from envhub.contracts.pause import Scope
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.access import FeedAccess, Role, ServerTls
from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.gate import Gate, needed_for
from envhub.feed.remote_control import RemoteControl
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from tests.feed.certificates import Authority
from tests.feed.feeding import call, consume, fake, ids, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ROLES = {"watch": Role.OBSERVER, "train": Role.TRAINER, "root": Role.OPERATOR}


@pytest.mark.parametrize(
    ("token", "reads", "trains", "steers"),
    [("watch", True, False, False), ("train", True, True, False), ("root", True, True, True)],
)
async def test_token_opens_what_its_role_may_do_and_no_more(token, reads, trains, steers):
    run = fake(1)

    def allowed(attempt) -> bool:
        try:
            attempt()
        except UsageError as error:
            assert f"this token is of the role {ROLES[token].name.lower()}" in str(error)
            return False
        return True

    def work(address: str) -> None:
        with RemoteControl(address, token=token) as control:
            assert allowed(control.state) is reads
            assert allowed(lambda: next(control.watch())) is reads
            assert allowed(lambda: FeedClient(address, consumer="x", token=token).close()) is trains
            assert allowed(lambda: control.abort(Scope())) is steers

    async with serve(run, run, access=FeedAccess(ROLES)) as address:
        await in_thread(work, address)


@pytest.mark.parametrize("token", ["", "wrong", "Bearer", "tra"])
async def test_unknown_token_opens_nothing_of_any_kind(token):
    run = fake(1)
    calls = [
        ("Rollouts", "Submit", pb.SubmitRequest(), False),
        ("Rollouts", "Fetch", pb.FetchRequest(), True),
        ("Control", "State", pb.StateRequest(), False),
        ("Control", "Watch", pb.WatchRequest(), True),
        ("Blobs", "Get", pb.BlobRequest(), True),
        ("Rollouts", "Stream", iter([pb.ClientMessage()]), True),
    ]
    async with serve(run, run, access=FeedAccess(ROLES)) as address:
        for service, method, message, streams in calls:
            with pytest.raises(grpc.RpcError) as caught:
                await in_thread(partial(call, address, service, method, message, token=token, streams=streams))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method


def test_method_that_nobody_thought_of_is_an_operators():
    assert needed_for("/envhub.feed.v1.Control/Explode") is Role.OPERATOR
    assert needed_for("/another.Service/Get") is Role.OPERATOR


def test_tokens_are_not_shown():
    assert "secret" not in repr(ServerTls(b"", b"secret"))
    assert "secret" not in repr(vars(Gate({"x": Role.TRAINER}))["_roles"])


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


async def test_client_has_to_show_a_certificate_where_the_server_asks_for_one(authority):
    run = fake(1)
    certificate, key = authority.issue("server")
    tls = ServerTls(certificate, key, client_ca=authority.pem)
    async with serve(run, run, host="0.0.0.0", access=FeedAccess({"secret": Role.TRAINER}, tls)) as bound:
        address = f"127.0.0.1:{bound.rpartition(':')[2]}"
        bare = partial(consume, address, token="secret", tls=ClientTls(authority.pem), reconnect_s=0.3)
        with pytest.raises(FeedUnavailable):
            await in_thread(bare)
        shown = ClientTls(authority.pem, *authority.issue("trainer"))
        assert await in_thread(partial(consume, address, token="secret", tls=shown)) == ids(0)


async def test_health_says_of_each_service_that_it_serves_without_a_token():
    run = fake(1)

    def check(address: str) -> list[int]:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ["", "envhub.feed.v1.Rollouts", "envhub.feed.v1.Control", "envhub.feed.v1.Blobs"]
            return [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status for name in names]

    async with serve(run, run, access=FeedAccess({"secret": Role.TRAINER})) as address:
        assert await in_thread(check, address) == [health_pb2.HealthCheckResponse.SERVING] * 4


async def test_reflection_shows_the_protocol_to_tools():
    run = fake(1)

    def reflect(address: str) -> tuple[set[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = set(database.get_services())
            file = database.FindFileContainingSymbol("envhub.feed.v1.Rollouts")
        return services, [method.name for service in file.service for method in service.method]

    async with serve(run, run) as address:
        services, methods = await in_thread(reflect, address)
    assert {"envhub.feed.v1.Rollouts", "envhub.feed.v1.Control", "envhub.feed.v1.Blobs"} <= services
    assert {"Stream", "Fetch", "SetLimits", "Get"} <= set(methods)


async def test_file_comes_by_its_hash_in_parts_and_others_are_not_found():
    picture = bytes(range(256)) * 10_000
    sha256 = hashlib.sha256(picture).hexdigest()
    run = fake(1)

    async def find(wanted: str) -> bytes | None:
        return picture if wanted == sha256 else None

    async with serve(run, run, blobs=find) as address:
        get = partial(call, address, "Blobs", "Get", streams=True)
        parts = await in_thread(get, pb.BlobRequest(sha256=sha256))
        assert b"".join(part.data for part in parts) == picture
        assert [part.last for part in parts] == [False, False, True]
        with pytest.raises(grpc.RpcError) as missing:
            await in_thread(get, pb.BlobRequest(sha256="0" * 64))
        with pytest.raises(grpc.RpcError) as malformed:
            await in_thread(get, pb.BlobRequest(sha256="../etc/shadow"))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
