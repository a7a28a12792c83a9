"""Who may call what: tokens by role, certificates of clients; health and reflection; files by their hash."""

import hashlib
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from envhub.contracts.access import Access, Rates, Role, TlsFiles, Token
from envhub.contracts.delivery import RunLimits
from envhub.contracts.events import OperatorActed
from envhub.contracts.guard import Guard
from envhub.contracts.ids import GroupId, PolicyId, RolloutId
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.task import Task
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.access import needed_for
from envhub.feed.client import ClientTls, FeedClient
from envhub.feed.remote_control import RemoteControl
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from tests.feed.certificates import Authority
from tests.feed.feeding import call, consume, fake, ids, in_thread
from tests.guarding import acts_into, guard

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

TOKEN = "a-secret-of-trainers"
ROLES = {"watch": Role.VIEWER, "train": Role.TRAINER, "act": Role.AGENT, "root": Role.OPERATOR}


@pytest.mark.parametrize(
    ("token", "reads", "trains", "steers"),
    [
        ("watch", True, False, False),
        ("train", True, True, False),
        ("act", False, False, False),
        ("root", True, True, True),
    ],
)
async def test_token_opens_what_its_role_may_do_and_no_more(token, reads, trains, steers):
    run = fake(1)

    def allowed(attempt) -> bool:
        try:
            attempt()
        except UsageError as error:
            assert f"this token is of the role {ROLES[token]}" in str(error)
            return False
        return True

    def work(address: str) -> None:
        with RemoteControl(address, token=token) as control:
            assert allowed(control.state) is reads
            assert allowed(lambda: next(control.watch())) is reads
            assert allowed(lambda: FeedClient(address, consumer="x", token=token).close()) is trains
            assert allowed(lambda: control.abort(Scope())) is steers

    async with serve(run, run, guard=guard(ROLES)) as address:
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
    async with serve(run, run, guard=guard(ROLES)) as address:
        for service, method, message, streams in calls:
            with pytest.raises(grpc.RpcError) as caught:
                await in_thread(partial(call, address, service, method, message, token=token, streams=streams))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method


def test_method_that_nobody_thought_of_is_an_operators():
    assert needed_for("/envhub.feed.v1.Control/Explode") is Role.OPERATOR
    assert needed_for("/another.Service/Get") is Role.OPERATOR


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


async def test_client_has_to_show_a_certificate_where_the_server_asks_for_one(authority):
    run = fake(1)
    tls = TlsFiles(*map(str, authority.files("server")), str(authority.file))
    async with serve(run, run, host="0.0.0.0", guard=guard({TOKEN: Role.TRAINER}, tls)) as bound:
        address = f"127.0.0.1:{bound.rpartition(':')[2]}"
        bare = partial(consume, address, token=TOKEN, tls=ClientTls(authority.pem), reconnect_s=0.3)
        with pytest.raises(FeedUnavailable):
            await in_thread(bare)
        shown = ClientTls(authority.pem, *authority.issue("trainer"))
        assert await in_thread(partial(consume, address, token=TOKEN, tls=shown)) == ids(0)


async def test_certificates_and_authorities_are_rotated_while_the_feed_runs(authority, tmp_path):
    run = fake(2)
    (tmp_path / "new").mkdir()
    newer = Authority(tmp_path / "new")
    live = tmp_path / "live.pem", tmp_path / "live.key", tmp_path / "live.ca"

    def put(by: Authority) -> None:
        for source, file in zip((*by.files("server"), by.file), live, strict=True):
            file.write_bytes(source.read_bytes())

    def trained(by: Authority, **options) -> list[str]:
        shown = ClientTls(by.pem, *by.issue("trainer"))
        with FeedClient(address, consumer="trainer", token=TOKEN, tls=shown, **options) as feed:
            lease = next(feed.groups(credit=1))
            return [lease.group_id] if lease.ack() else []

    put(authority)
    async with serve(run, run, guard=guard({TOKEN: Role.TRAINER}, TlsFiles(*map(str, live)))) as address:
        assert await in_thread(partial(trained, authority)) == ids(0)
        put(newer)
        assert await in_thread(partial(trained, newer)) == ["run-1"]
        with pytest.raises(FeedUnavailable):
            await in_thread(partial(trained, authority, reconnect_s=0.3))


async def test_every_act_over_the_feed_is_recorded_with_who_and_whence_the_refused_ones_too():
    run = fake(1)
    kept: list[OperatorActed] = []
    door = Guard(Access((Token("all", Role.OPERATOR, "ana"), Token("watch", Role.VIEWER, "boris"))))

    def work(address: str) -> None:
        with RemoteControl(address, token="all") as control:
            control.pause(Scope(policy_id=PolicyId("policy")), PauseMode.WAIT)
            control.limit(RunLimits(max_running=3))
            control.abort(Scope(rollout_id=RolloutId("x")))
            control.drain()
            control.state()
            with pytest.raises(UsageError):
                control.resume(Scope(group_id=GroupId("never-paused")))
        for token in ("watch", "guessed"):
            with RemoteControl(address, token=token) as control, pytest.raises(UsageError):
                control.drain()

    async with serve(run, run, guard=door, acts=acts_into(kept, door)) as address:
        await in_thread(work, address)
    assert {(act.address, act.via) for act in kept} == {("127.0.0.1", "feed")}
    assert [(act.operator, act.role, act.action, act.detail, bool(act.refused)) for act in kept] == [
        ("ana", "operator", "pause", {"mode": "wait", "scope": {"policy_id": "policy"}}, False),
        ("ana", "operator", "limit", {"max_running": 3}, False),
        ("ana", "operator", "abort", {"scope": {"rollout_id": "x"}}, False),
        ("ana", "operator", "drain", {}, False),
        ("ana", "operator", "resume", {"pinned": False, "scope": {"group_id": "never-paused"}}, True),
        ("boris", "viewer", "drain", {}, True),
        ("127.0.0.1", "", "drain", {}, True),
    ]


async def test_control_comes_at_its_rate_and_says_when_to_come_again():
    run = fake(1)
    door = Guard(Access(rates=Rates(control=0.1)))

    def work(address: str) -> str:
        with RemoteControl(address) as control:
            for _ in range(10):
                control.abort(Scope())
            with pytest.raises(UsageError) as refused:
                control.abort(Scope())
        return str(refused.value)

    async with serve(run, run, guard=door, acts=acts_into([], door)) as address:
        said = await in_thread(work, address)
    assert "asks more often than the rate of control, 0.1 a second; try again in " in said


async def test_groups_are_submitted_at_a_rate_and_the_refusal_says_when_to_come_again():
    run = fake(0)

    def work(address: str) -> grpc.RpcError:
        with FeedClient(address, consumer="trainer") as feed:
            for number in range(10):
                feed.submit("demo/sums-v0", Task.ask("1 + 1"), key=str(number))
        with pytest.raises(grpc.RpcError) as refused:
            call(address, "Rollouts", "Submit", pb.SubmitRequest())
        return refused.value

    async with serve(run, run, guard=Guard(Access(rates=Rates(submit=0.01)))) as address:
        refused = await in_thread(work, address)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < int(dict(refused.trailing_metadata())["retry-after"]) <= 100


async def test_a_client_that_submits_too_fast_waits_and_loses_nothing():
    run = fake(0)
    door = Guard(Access(rates=Rates(submit=5)))  # fifty at once

    def work(address: str) -> list[str]:
        with FeedClient(address, consumer="trainer") as feed:
            return [feed.submit("demo/sums-v0", Task.ask("1 + 1"), key=str(number)) for number in range(53)]

    async with serve(run, run, guard=door) as address:
        assert len(set(await in_thread(work, address))) == 53


async def test_what_unpacks_to_more_than_a_message_may_have_is_not_unpacked():
    run = fake(0)

    def work(address: str) -> grpc.RpcError:
        options = (("grpc.max_send_message_length", -1),)
        packed = grpc.insecure_channel(address, options=options, compression=grpc.Compression.Gzip)
        with packed as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/envhub.feed.v1.Rollouts/Submit")(bytes(64 << 20), timeout=30)
        return refused.value

    async with serve(run, run, guard=guard(ROLES)) as address:
        refused = await in_thread(work, address)
    assert (refused.code(), refused.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Decompressed message larger than max",
    )


async def test_guesses_of_one_address_are_slowed_down():
    run = fake(0)

    def work(address: str) -> list[grpc.StatusCode]:
        codes = []
        for number in range(12):
            with pytest.raises(grpc.RpcError) as refused:
                call(address, "Control", "State", pb.StateRequest(), token=f"guess-{number}")
            codes.append(refused.value.code())
        return codes

    door = Guard(Access((Token("all", Role.OPERATOR),), rates=Rates(failure=0.01)))
    async with serve(run, run, guard=door) as address:
        codes = await in_thread(work, address)
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2


async def test_health_says_of_each_service_that_it_serves_without_a_token():
    run = fake(1)

    def check(address: str) -> list[int]:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ["", "envhub.feed.v1.Rollouts", "envhub.feed.v1.Control", "envhub.feed.v1.Blobs"]
            return [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status for name in names]

    async with serve(run, run, guard=guard({TOKEN: Role.TRAINER})) as address:
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
