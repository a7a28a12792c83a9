"""BlobsService: files that rows name by their hash, each sent once to whoever wants it."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import grpc

from envhub.feed.parts import parts_of
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

SHA256 = re.compile("[0-9a-f]{64}")

Find: TypeAlias = Callable[[str], Awaitable[bytes | None]]  # the file of a hash; None: there is none


async def no_blobs(sha256: str) -> None:
    """Of a feed whose groups name no files."""


class BlobsService(feed_pb2_grpc.BlobsServicer):
    """Binds the calls to a store's files."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def Get(self, request: pb.BlobRequest, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        if not SHA256.fullmatch(request.sha256):
            text = f"'{request.sha256[:80]}' is no SHA-256; send 64 hexadecimal digits in lower case"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        data = await self._find(request.sha256)
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"this run has no file of the hash {request.sha256}")
            return  # abort raises
        for part in parts_of(data):
            yield part
