"""What the feed refuses, and how it says so."""

from functools import partial

import grpc
import pytest

from envhub import http_server
from envhub.contracts.access import Access, Role, TlsFiles
from envhub.contracts.address import is_loopback
from envhub.contracts.guard import Guard
from envhub.errors import UsageError
from envhub.feed.client import FeedClient
from envhub.feed.server import check_address, serve
from envhub.feed.v1 import feed_pb2 as pb
from tests.feed.certificates import Authority
from tests.feed.feeding import OPEN, consume, converse, fake, in_thread
from tests.guarding import access, guard

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

TOKEN = "a-secret-of-trainers"
SECRET = {TOKEN: Role.TRAINER}


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_wrong_token_is_refused(token):
    run = fake(1)
    async with serve(run, run, guard=guard(SECRET)) as address:
        with pytest.raises(UsageError, match="wrong or missing token"):
            await in_thread(partial(consume, address, token=token))
    assert run.consumers == []


async def test_right_token_is_served():
    run = fake(1)
    async with serve(run, run, guard=guard(SECRET)) as address:
        assert await in_thread(partial(consume, address, token=TOKEN)) == ["run-0"]


@pytest.mark.parametrize(
    ("lacking", "missing"),
    [
        (Access(), "a token and TLS"),
        (access(SECRET), "TLS"),
        (Access(proxied=True), "a token"),
        (Access(tls=TlsFiles("certificate.pem", "key.pem")), "a token"),
    ],
    ids=["bare", "token only", "proxy only", "TLS only"],
)
async def test_host_that_others_reach_needs_a_token_and_tls(lacking, missing):
    run = fake(1)
    with pytest.raises(UsageError, match=rf"host '0\.0\.0\.0' can be reached from outside, which needs {missing};"):
        async with serve(run, run, host="0.0.0.0", guard=Guard(lacking)):
            pass


async def test_feed_behind_a_proxy_that_ends_tls_is_served_in_the_clear():
    run = fake(1)
    async with serve(run, run, host="0.0.0.0", guard=guard(SECRET, proxied=True)) as bound:
        address = f"127.0.0.1:{bound.rpartition(':')[2]}"
        assert await in_thread(partial(consume, address, token=TOKEN)) == ["run-0"]


@pytest.mark.parametrize("token", ["", " padded", "two\nlines", "geheim-ß"])
def test_token_that_no_client_could_send_is_refused_and_not_shown(token):
    with pytest.raises(UsageError, match="a token of the role viewer") as refused:
        access({token: Role.VIEWER})
    assert not token or token not in str(refused.value)


async def test_token_never_leaves_the_machine_in_the_clear():
    with pytest.raises(UsageError, match="in the clear"):
        FeedClient("trainer.example:50051", consumer="trainer", token=TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_http_and_feed_agree_on_what_loopback_is(host):
    assert is_loopback(host)
    assert http_server.is_loopback is is_loopback


async def test_port_in_use_is_named():
    run = fake(1)
    async with serve(run, run) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serve(run, run, port=port):
                pass


async def test_checking_an_address_finds_what_serving_would_and_leaves_the_port_free():
    run = fake(1)
    async with serve(run, run) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port} .*in use"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
    async with serve(run, run, port=port):
        pass


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("0.0.0.0", 0, "needs a token and TLS|needs TLS"),
        ("127.0.0.1", 70_000, "cannot listen on 127.0.0.1:70000"),
        ("::1", 70_000, r"cannot listen on \[::1\]:70000"),
    ],
)
def test_checking_an_address_refuses_what_serving_would(host, port, rule):
    with pytest.raises(UsageError, match=rule):
        check_address(host, port, access(SECRET))


def test_checking_an_address_admits_a_host_that_token_and_tls_guard(tmp_path):
    check_address("0.0.0.0", 0, access(SECRET, TlsFiles(*map(str, Authority(tmp_path).files("server")))))


def test_a_token_that_is_short_is_refused_where_others_can_guess():
    with pytest.raises(UsageError, match=r"a token of the role trainer has 6 letters, .* takes 16 or more"):
        check_address("0.0.0.0", 0, access({"secret": Role.TRAINER}, proxied=True))
    check_address("127.0.0.1", 0, access({"secret": Role.TRAINER}))


@pytest.mark.parametrize("credit", [0, 1025])
async def test_credit_out_of_range_is_refused_before_anything_is_leased(credit):
    run = fake(1)
    async with serve(run, run) as address:
        with pytest.raises(UsageError, match=f"credit is {credit}; it must be 1 to 1024"):
            await in_thread(partial(consume, address, credit=credit))
    assert run.consumers == []


async def test_client_without_a_name_is_refused():
    with pytest.raises(UsageError, match="consumer is empty"):
        FeedClient("127.0.0.1:1", consumer="")


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([pb.ClientMessage(credit=pb.Credit(groups=1))], "first message must be an Open"),
        ([], "first message must be an Open"),
        ([OPEN, pb.ClientMessage(credit=pb.Credit(groups=0))], "it must grant 1 to 1024"),
    ],
    ids=["no Open", "nothing", "no groups"],
)
async def test_stream_that_breaks_a_rule_ends_with_that_rule(messages, rule):
    run = fake(1)
    async with serve(run, run) as address:
        with pytest.raises(grpc.RpcError) as caught:
            await in_thread(converse, address, messages)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rule in caught.value.details()


async def test_commands_are_answered_in_their_order_and_the_stream_survives_refusals():
    run = fake(0)
    ack = pb.ClientMessage(ack=pb.Ack(lease_id="none"))
    version = pb.ClientMessage(version=pb.Version(policy_id="p", version=1))
    async with serve(run, run) as address:
        opened, lost, again, unknown, done = await in_thread(
            converse, address, [OPEN, ack, OPEN, pb.ClientMessage(), version]
        )
    assert opened.done == pb.Done()
    assert (lost.notice.kind, lost.notice.lease_id) == (pb.Notice.KIND_LEASE_LOST, "none")
    assert again.notice.kind == unknown.notice.kind == pb.Notice.KIND_REFUSED
    assert done.WhichOneof("kind") == "done"
