from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_COMPLETED: _ClassVar[Status]
    STATUS_TRUNCATED: _ClassVar[Status]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]
    ROLE_TOOL: _ClassVar[Role]

class PauseMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAUSE_MODE_CUT: _ClassVar[PauseMode]
    PAUSE_MODE_KEEP: _ClassVar[PauseMode]
    PAUSE_MODE_WAIT: _ClassVar[PauseMode]
STATUS_UNSPECIFIED: Status
STATUS_COMPLETED: Status
STATUS_TRUNCATED: Status
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
ROLE_TOOL: Role
PAUSE_MODE_CUT: PauseMode
PAUSE_MODE_KEEP: PauseMode
PAUSE_MODE_WAIT: PauseMode

class ClientMessage(_message.Message):
    __slots__ = ("open", "credit", "ack", "nack", "extend", "version", "update", "begin_update", "finish_update", "move_server", "id")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_UPDATE_FIELD_NUMBER: _ClassVar[int]
    FINISH_UPDATE_FIELD_NUMBER: _ClassVar[int]
    MOVE_SERVER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    open: Open
    credit: Credit
    ack: Ack
    nack: Nack
    extend: Extend
    version: Version
    update: Update
    begin_update: BeginUpdate
    finish_update: FinishUpdate
    move_server: MoveServer
    id: int
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., extend: _Optional[_Union[Extend, _Mapping]] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., update: _Optional[_Union[Update, _Mapping]] = ..., begin_update: _Optional[_Union[BeginUpdate, _Mapping]] = ..., finish_update: _Optional[_Union[FinishUpdate, _Mapping]] = ..., move_server: _Optional[_Union[MoveServer, _Mapping]] = ..., id: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("consumer", "rank", "ranks")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    rank: int
    ranks: int
    def __init__(self, consumer: _Optional[str] = ..., rank: _Optional[int] = ..., ranks: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("groups", "tokens", "bytes")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    groups: int
    tokens: int
    bytes: int
    def __init__(self, groups: _Optional[int] = ..., tokens: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("lease_id", "reason")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    reason: str
    def __init__(self, lease_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Extend(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("policy_id", "version")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    version: int
    def __init__(self, policy_id: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("policy_id", "version", "weights", "deadline_s")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    version: int
    weights: str
    deadline_s: float
    def __init__(self, policy_id: _Optional[str] = ..., version: _Optional[int] = ..., weights: _Optional[str] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class BeginUpdate(_message.Message):
    __slots__ = ("policy_id", "version", "deadline_s")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    version: int
    deadline_s: float
    def __init__(self, policy_id: _Optional[str] = ..., version: _Optional[int] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class FinishUpdate(_message.Message):
    __slots__ = ("policy_id", "version")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    version: int
    def __init__(self, policy_id: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class MoveServer(_message.Message):
    __slots__ = ("server", "policy_id", "weights")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    server: str
    policy_id: str
    weights: str
    def __init__(self, server: _Optional[str] = ..., policy_id: _Optional[str] = ..., weights: _Optional[str] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("delivery", "done", "notice", "end", "part")
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    delivery: Delivery
    done: Done
    notice: Notice
    end: End
    part: Part
    def __init__(self, delivery: _Optional[_Union[Delivery, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., part: _Optional[_Union[Part, _Mapping]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("lease_id", "deadline", "answers")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    deadline: float
    answers: int
    def __init__(self, lease_id: _Optional[str] = ..., deadline: _Optional[float] = ..., answers: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "lease_id", "message", "answers", "group_id", "tokens", "bytes")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Notice.Kind]
        KIND_LEASE_LOST: _ClassVar[Notice.Kind]
        KIND_REFUSED: _ClassVar[Notice.Kind]
        KIND_FAILED: _ClassVar[Notice.Kind]
        KIND_ALREADY_ACKED: _ClassVar[Notice.Kind]
        KIND_DEAD_LETTER: _ClassVar[Notice.Kind]
        KIND_STALE: _ClassVar[Notice.Kind]
        KIND_SHORT_OF_CREDIT: _ClassVar[Notice.Kind]
        KIND_REPLACED: _ClassVar[Notice.Kind]
    KIND_UNSPECIFIED: Notice.Kind
    KIND_LEASE_LOST: Notice.Kind
    KIND_REFUSED: Notice.Kind
    KIND_FAILED: Notice.Kind
    KIND_ALREADY_ACKED: Notice.Kind
    KIND_DEAD_LETTER: Notice.Kind
    KIND_STALE: Notice.Kind
    KIND_SHORT_OF_CREDIT: Notice.Kind
    KIND_REPLACED: Notice.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: Notice.Kind
    lease_id: str
    message: str
    answers: int
    group_id: str
    tokens: int
    bytes: int
    def __init__(self, kind: _Optional[_Union[Notice.Kind, str]] = ..., lease_id: _Optional[str] = ..., message: _Optional[str] = ..., answers: _Optional[int] = ..., group_id: _Optional[str] = ..., tokens: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("lease_id", "deadline", "count", "group", "lease_s")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    deadline: float
    count: int
    group: Group
    lease_s: float
    def __init__(self, lease_id: _Optional[str] = ..., deadline: _Optional[float] = ..., count: _Optional[int] = ..., group: _Optional[_Union[Group, _Mapping]] = ..., lease_s: _Optional[float] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("run_id", "group_id", "number", "environment", "task_id", "k", "policy_version", "members")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    group_id: str
    number: int
    environment: str
    task_id: str
    k: int
    policy_version: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, run_id: _Optional[str] = ..., group_id: _Optional[str] = ..., number: _Optional[int] = ..., environment: _Optional[str] = ..., task_id: _Optional[str] = ..., k: _Optional[int] = ..., policy_version: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("index", "rollout_id", "attempt", "status", "truncated_by", "reward", "components", "rows", "oldest_version", "newest_version")
    class ComponentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_BY_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    index: int
    rollout_id: str
    attempt: int
    status: Status
    truncated_by: str
    reward: float
    components: _containers.ScalarMap[str, float]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    oldest_version: int
    newest_version: int
    def __init__(self, index: _Optional[int] = ..., rollout_id: _Optional[str] = ..., attempt: _Optional[int] = ..., status: _Optional[_Union[Status, str]] = ..., truncated_by: _Optional[str] = ..., reward: _Optional[float] = ..., components: _Optional[_Mapping[str, float]] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., oldest_version: _Optional[int] = ..., newest_version: _Optional[int] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("rollout_id", "parent_rollout_id", "token_ids", "logprobs", "spans", "parent_row", "fork_at", "prompt_length", "turns", "images", "files", "rewards")
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    PARENT_ROW_FIELD_NUMBER: _ClassVar[int]
    FORK_AT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    parent_rollout_id: str
    token_ids: bytes
    logprobs: bytes
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    parent_row: int
    fork_at: int
    prompt_length: int
    turns: _containers.RepeatedScalarFieldContainer[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    files: _containers.RepeatedCompositeFieldContainer[TokenFile]
    rewards: _containers.RepeatedCompositeFieldContainer[TurnReward]
    def __init__(self, rollout_id: _Optional[str] = ..., parent_rollout_id: _Optional[str] = ..., token_ids: _Optional[bytes] = ..., logprobs: _Optional[bytes] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., parent_row: _Optional[int] = ..., fork_at: _Optional[int] = ..., prompt_length: _Optional[int] = ..., turns: _Optional[_Iterable[int]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., files: _Optional[_Iterable[_Union[TokenFile, _Mapping]]] = ..., rewards: _Optional[_Iterable[_Union[TurnReward, _Mapping]]] = ...) -> None: ...

class TokenFile(_message.Message):
    __slots__ = ("kind", "sha256", "start", "end")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TokenFile.Kind]
        KIND_SAMPLING_MASK: _ClassVar[TokenFile.Kind]
        KIND_ROUTED_EXPERTS: _ClassVar[TokenFile.Kind]
    KIND_UNSPECIFIED: TokenFile.Kind
    KIND_SAMPLING_MASK: TokenFile.Kind
    KIND_ROUTED_EXPERTS: TokenFile.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    kind: TokenFile.Kind
    sha256: str
    start: int
    end: int
    def __init__(self, kind: _Optional[_Union[TokenFile.Kind, str]] = ..., sha256: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class TurnReward(_message.Message):
    __slots__ = ("turn", "end", "reward")
    TURN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    turn: int
    end: int
    reward: float
    def __init__(self, turn: _Optional[int] = ..., end: _Optional[int] = ..., reward: _Optional[float] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("sha256", "media_type", "width", "height", "start", "end")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    media_type: str
    width: int
    height: int
    start: int
    end: int
    def __init__(self, sha256: _Optional[str] = ..., media_type: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end", "role", "sampled", "trainable", "policy_id", "policy_version", "temperature", "turn")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    role: Role
    sampled: bool
    trainable: bool
    policy_id: str
    policy_version: int
    temperature: float
    turn: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., role: _Optional[_Union[Role, str]] = ..., sampled: bool = ..., trainable: bool = ..., policy_id: _Optional[str] = ..., policy_version: _Optional[int] = ..., temperature: _Optional[float] = ..., turn: _Optional[int] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("key", "environment", "environment_json", "task", "k", "policy_id", "agent", "judge", "temperature", "max_tokens", "priority", "seed", "deadline_s", "extra", "min_k", "top_p", "top_k", "min_p")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    MIN_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    key: str
    environment: str
    environment_json: str
    task: Task
    k: int
    policy_id: str
    agent: str
    judge: str
    temperature: float
    max_tokens: int
    priority: int
    seed: int
    deadline_s: float
    extra: int
    min_k: int
    top_p: float
    top_k: int
    min_p: float
    def __init__(self, key: _Optional[str] = ..., environment: _Optional[str] = ..., environment_json: _Optional[str] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., k: _Optional[int] = ..., policy_id: _Optional[str] = ..., agent: _Optional[str] = ..., judge: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., priority: _Optional[int] = ..., seed: _Optional[int] = ..., deadline_s: _Optional[float] = ..., extra: _Optional[int] = ..., min_k: _Optional[int] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "prompt", "answer_json", "metadata_json", "seed")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_JSON_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: _containers.RepeatedCompositeFieldContainer[Message]
    answer_json: str
    metadata_json: str
    seed: int
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., answer_json: _Optional[str] = ..., metadata_json: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    content: str
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., content: _Optional[str] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("group_id",)
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    def __init__(self, group_id: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("group_id",)
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    def __init__(self, group_id: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("consumer", "rank", "ranks", "groups", "wait_s", "key")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    rank: int
    ranks: int
    groups: int
    wait_s: float
    key: str
    def __init__(self, consumer: _Optional[str] = ..., rank: _Optional[int] = ..., ranks: _Optional[int] = ..., groups: _Optional[int] = ..., wait_s: _Optional[float] = ..., key: _Optional[str] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ClientMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ClientMessage, _Mapping]]] = ...) -> None: ...

class SettleReply(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[ServerMessage]
    def __init__(self, answers: _Optional[_Iterable[_Union[ServerMessage, _Mapping]]] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("policy_id", "environment", "group_id", "rollout_id")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    environment: str
    group_id: str
    rollout_id: str
    def __init__(self, policy_id: _Optional[str] = ..., environment: _Optional[str] = ..., group_id: _Optional[str] = ..., rollout_id: _Optional[str] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("scope", "mode")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    mode: PauseMode
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., mode: _Optional[_Union[PauseMode, str]] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("scope", "pinned")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    pinned: bool
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., pinned: bool = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("scope",)
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_groups", "max_running")
    MAX_GROUPS_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    max_groups: int
    max_running: int
    def __init__(self, max_groups: _Optional[int] = ..., max_running: _Optional[int] = ...) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("every_s",)
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    every_s: float
    def __init__(self, every_s: _Optional[float] = ...) -> None: ...

class RunState(_message.Message):
    __slots__ = ("run_id", "submitted", "members", "versions", "limits", "draining")
    class MembersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    submitted: int
    members: _containers.ScalarMap[str, int]
    versions: _containers.ScalarMap[str, int]
    limits: Limits
    draining: bool
    def __init__(self, run_id: _Optional[str] = ..., submitted: _Optional[int] = ..., members: _Optional[_Mapping[str, int]] = ..., versions: _Optional[_Mapping[str, int]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., draining: bool = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...
