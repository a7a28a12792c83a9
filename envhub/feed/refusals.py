"""What a caller is told where its request can't be done."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from envhub.errors import AccessRefused, RateExceeded, UnknownCaller, UnknownName, UsageError
from envhub.feed.connection import RETRY_AFTER


@asynccontextmanager
async def refusals(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Ends the call with a status and the reason where what is within can't be done, or not for this caller."""
    try:
        yield
    except AccessRefused as error:
        await refuse(context, error)
    except UnknownName as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except UsageError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


async def refuse(context: grpc.aio.ServicerContext, error: AccessRefused) -> None:
    """Ends the call; where it came too soon, says when to come again."""
    if isinstance(error, RateExceeded):
        context.set_trailing_metadata(((RETRY_AFTER, str(math.ceil(error.retry_after_s))),))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    unknown = isinstance(error, UnknownCaller)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED if unknown else grpc.StatusCode.PERMISSION_DENIED, str(error))
