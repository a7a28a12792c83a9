"""Messages, as agents, environments and dialects exchange them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TypeAlias

from envhub.contracts.files import FileBytes
from envhub.contracts.image_header import image_header
from envhub.contracts.quick import quickly_made

JsonValue: TypeAlias = object  # None, bool, int, float, str, a list of these, or a JsonObject
JsonObject: TypeAlias = Mapping[str, JsonValue]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@quickly_made
@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call inside an action. `error` says why the model's text was no valid call; then `arguments` is empty."""

    id: str
    name: str
    arguments: JsonObject = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message, known by its file's hash; stores keep each file once."""

    sha256: str  # of the file, hex
    media_type: str  # image/png, image/jpeg, image/gif or image/webp
    width: int  # pixels
    height: int
    at: int = 0  # characters of the message's content before it
    data: bytes = field(default=b"", compare=False, repr=False)  # FileBytes; b"" where only the store has it

    @classmethod
    def of(cls, data: bytes, *, at: int = 0) -> "Image":
        """The picture in a file.

        Raises:
            UsageError: it is no PNG, JPEG, GIF or WebP.
        """
        media_type, width, height = image_header(data)
        return cls(sha256(data).hexdigest(), media_type, width, height, at, FileBytes(data))


@quickly_made
@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()  # assistant only
    tool_call_id: str = ""  # tool only: the call that this answers
    reasoning: str = ""  # assistant only
    images: tuple[Image, ...] = ()  # in order of `at`

    @classmethod
    def system(cls, content: str) -> "Message":
        return cls(Role.SYSTEM, content)

    @classmethod
    def user(cls, content: str, *images: bytes) -> "Message":
        """What a user says, and the files of the pictures that follow it."""
        return cls(Role.USER, content, images=tuple(Image.of(image, at=len(content)) for image in images))

    @classmethod
    def assistant(cls, content: str, tool_calls: tuple[ToolCall, ...] = ()) -> "Message":
        return cls(Role.ASSISTANT, content, tool_calls)

    @classmethod
    def tool(cls, content: str, tool_call_id: str) -> "Message":
        return cls(Role.TOOL, content, tool_call_id=tool_call_id)
