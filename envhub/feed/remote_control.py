"""RemoteControl: what an operator may ask of a run in another process, over its feed.

with RemoteControl("127.0.0.1:50051", token=token) as control:
    control.pause(Scope(policy_id=PolicyId("policy")))
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from envhub.contracts.delivery import RunLimits, RunState
from envhub.contracts.ids import PolicyId, PolicyVersion, RunId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.connection import ANSWER_S, REFUSALS, ClientTls, Dial
from envhub.feed.requests import PAUSE_MODES
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

MODES_TO_WIRE = {mode: pb.PauseMode.Name(number) for number, mode in PAUSE_MODES.items()}
EVERYTHING = Scope()


class RemoteControl:
    """Calls block. None is made again by itself: after FeedUnavailable, `state` says what became of it.

    Raises:
        UsageError: a token that would cross the network in the clear; of every call, what the run or the role forbids.
        FeedUnavailable: of every call, no answer.
    """

    def __init__(self, address: str, *, token: str | None = None, tls: ClientTls | None = None) -> None:
        self._dial = Dial(address, "operator", token, tls)
        self._channel = self._dial.channel()
        self._stub = feed_pb2_grpc.ControlStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def pause(self, scope: Scope = EVERYTHING, mode: PauseMode = PauseMode.CUT) -> None:
        """Holds rollouts before their next generation."""
        self._call("Pause", pb.PauseRequest(scope=_scope(scope), mode=MODES_TO_WIRE[mode]))

    def resume(self, scope: Scope = EVERYTHING, *, pinned: bool = False) -> None:
        """Lets go what that pause holds; what was cut goes on, `pinned` under the version that it began with."""
        self._call("Resume", pb.ResumeRequest(scope=_scope(scope), pinned=pinned))

    def abort(self, scope: Scope) -> None:
        """Ends rollouts now; what they recorded stays."""
        self._call("Abort", pb.AbortRequest(scope=_scope(scope)))

    def drain(self, timeout_s: float = 3600.0) -> None:
        """Has the run take no more groups, and returns once those that it had have ended."""
        self._call("Drain", pb.DrainRequest(), timeout_s)

    def limit(self, limits: RunLimits) -> None:
        """Changes how much runs at once."""
        self._call("SetLimits", pb.Limits(max_groups=limits.max_groups, max_running=limits.max_running))

    def state(self) -> RunState:
        return _state(self._call("State", pb.StateRequest()))

    def watch(self, every_s: float = 1.0) -> Iterator[RunState]:
        """The state now, and again whenever a look each `every_s` finds another one, until the feed stops."""
        call = self._stub.Watch(pb.WatchRequest(every_s=every_s), metadata=self._dial.metadata)
        try:
            yield from map(_state, call)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        finally:
            call.cancel()

    def _call(self, method: str, request: Any, timeout_s: float = ANSWER_S) -> Any:  # the method's own messages
        try:
            return getattr(self._stub, method)(request, timeout=timeout_s, metadata=self._dial.metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.RpcError) -> UsageError | FeedUnavailable:
        if error.code() in REFUSALS:
            return UsageError(f"the feed at {self._dial.address} refused: {error.details()}")
        return FeedUnavailable(
            f"the feed at {self._dial.address} did not answer ({error.code().name}: {error.details()}); "
            "check the address and that the run is being served"
        )


def _scope(scope: Scope) -> pb.Scope:
    return pb.Scope(
        policy_id=scope.policy_id or "",
        environment=scope.environment_id or "",
        group_id=scope.group_id or "",
        rollout_id=scope.rollout_id or "",
    )


def _state(state: pb.RunState) -> RunState:
    members = {MemberState(name): number for name, number in state.members.items()}
    limits = state.limits
    return RunState(
        RunId(state.run_id),
        MemberCounts(state.submitted, members),
        {PolicyId(policy_id): PolicyVersion(version) for policy_id, version in state.versions.items()},
        RunLimits(
            limits.max_groups if limits.HasField("max_groups") else None,
            limits.max_running if limits.HasField("max_running") else None,
        ),
        state.draining,
    )
