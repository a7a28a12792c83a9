"""What a caller is told where its request can't be done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from envhub.errors import UnknownName, UsageError


@asynccontextmanager
async def refusals(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Ends the call with NOT_FOUND or INVALID_ARGUMENT and the reason where what is within can't be done."""
    try:
        yield
    except UnknownName as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except UsageError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
