"""gRPC alone: the same bytes as the feed's, with nothing of the feed around them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio
import grpc

from envhub.feed.parts import PART_BYTES
from envhub.feed.server import OPTIONS
from envhub.feed.v1 import feed_pb2 as pb


@asynccontextmanager
async def raw_server(data: Iterable[bytes]) -> AsyncIterator[str]:
    """Streams these bytes in messages of the size of the feed's parts."""

    async def stream(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for whole in data:
            for start in range(0, len(whole), PART_BYTES):
                yield whole[start : start + PART_BYTES]

    handler = grpc.method_handlers_generic_handler("raw", {"Stream": grpc.unary_stream_rpc_method_handler(stream)})
    async with _served(handler) as address:
        yield address


@asynccontextmanager
async def conversing_server(messages: Sequence[bytes]) -> AsyncIterator[str]:
    """Sends these messages to a client of the feed as its credits allow, and answers its acks by Done."""

    async def converse(requests: AsyncIterator[pb.ClientMessage], context: grpc.aio.ServicerContext) -> None:
        credits, granted = anyio.create_memory_object_stream[None](1 << 16)
        writing = anyio.Lock(fast_acquire=True)

        async def write(message: bytes) -> None:
            async with writing:
                await context.write(message)

        async def send() -> None:
            for message in messages:
                await granted.receive()
                await write(message)
            await write(pb.ServerMessage(end=pb.End()).SerializeToString())

        async with anyio.create_task_group() as tasks, credits, granted:
            tasks.start_soon(send)
            async for said in requests:
                for _ in range(said.credit.groups):
                    credits.send_nowait(None)
                if not said.HasField("credit"):
                    await write(pb.ServerMessage(done=pb.Done()).SerializeToString())  # of its Open
            tasks.cancel_scope.cancel()

    async def settle(request: pb.SettleRequest, context: grpc.aio.ServicerContext) -> bytes:
        done = [pb.ServerMessage(done=pb.Done(answers=said.id)) for said in request.messages]
        return pb.SettleReply(answers=done).SerializeToString()

    methods = {
        "Stream": grpc.stream_stream_rpc_method_handler(converse, pb.ClientMessage.FromString),
        "Settle": grpc.unary_unary_rpc_method_handler(settle, pb.SettleRequest.FromString),
    }
    async with _served(grpc.method_handlers_generic_handler("envhub.feed.v1.Rollouts", methods)) as address:
        yield address


@asynccontextmanager
async def _served(handler: grpc.GenericRpcHandler) -> AsyncIterator[str]:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
