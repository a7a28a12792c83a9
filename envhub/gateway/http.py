"""What the gateway's routes share: who calls, what they sent (bounded in bytes and in time), and JSON answers."""

from collections.abc import Mapping
from typing import TypeVar

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from envhub.contracts.messages import JsonObject
from envhub.gateway.compression import unpacked
from envhub.gateway.errors import ApiError
from envhub.gateway.places import Room

MAX_BYTES = 32 * 2**20
READ_S = 60.0
DRAINED = 8  # times the limit: clients read an answer only once they have sent all

T = TypeVar("T")


def bearer(request: Request) -> str:
    """The key or token of the Authorization header; "" where there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_of(request: Request) -> str:
    """The session's key, wherever a dialect puts it; "" where there is none."""
    if "key" in request.scope:
        return str(request.scope["key"])
    headers = request.headers
    return (
        bearer(request)
        or headers.get("x-api-key")
        or headers.get("x-goog-api-key")
        or request.query_params.get("key")
        or ""
    )


def json_response(content: JsonObject, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


async def read_json(request: Request, kind: type[T], room: Room) -> T:
    """The body, decoded; `object` takes any JSON. It takes `room` while it is received.

    Raises:
        ApiError: 400, no JSON or not of that kind; 408, too slow; 413, too large; 415, compressed in an unknown way;
            429, no room.
    """
    return decoded(await read_body(request, room), kind)


async def read_body(request: Request, room: Room) -> bytes:
    """The body, no longer compressed.

    Raises:
        ApiError: 400, 408, 413, 415 and 429, as of read_json.
    """
    body = unpacked(await _read_body(request, room), request.headers.get("content-encoding", ""), MAX_BYTES)
    if len(body) > MAX_BYTES:
        raise _too_large()
    return body


def decoded(body: bytes, kind: type[T]) -> T:
    """
    Raises:
        ApiError: 400, no JSON or not of that kind.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body can't be read: {error}") from error


async def _read_body(request: Request, room: Room) -> bytes:
    """The raw body; what exceeds the limit is never kept."""
    chunks: list[bytes] = []
    size = kept = 0
    with anyio.move_on_after(READ_S) as patience:
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BYTES:
                    room.take(len(chunk))
                    kept = size
                    chunks.append(chunk)
                elif size > DRAINED * MAX_BYTES:
                    break
        except ClientDisconnect as error:
            raise ApiError(400, "incomplete_body", "the connection closed within the body") from error
        finally:
            room.give_back(kept)
    if patience.cancelled_caught:
        raise ApiError(408, "request_timeout", f"the body took longer than {READ_S:g} s; send it at once")
    if size > MAX_BYTES:
        raise _too_large()
    return b"".join(chunks)


def _too_large() -> ApiError:
    message = f"the body is larger than {MAX_BYTES} bytes, the limit here; shorten the conversation"
    return ApiError(413, "request_too_large", message)
