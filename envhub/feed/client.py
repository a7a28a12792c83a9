"""FeedClient: groups for a trainer, leased one by one; needs numpy, protobuf and grpcio, and nothing else.

with FeedClient("127.0.0.1:50051", consumer="trainer-0") as feed:
    for lease in feed.groups(credit=4):
        train(lease.group)
        lease.ack()
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from envhub.contracts.delivery import UPDATE_S
from envhub.contracts.ids import TRAINED, GroupId, LeaseId
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import FeedUnavailable, LeaseLost, UpdateFailed, UsageError
from envhub.feed.codec import TrainerGroup, TrainerMember, TrainerRow
from envhub.feed.connection import ANSWER_S, ClientTls, Connection, Dial
from envhub.feed.conversation import Conversation
from envhub.feed.cursor import Cursor
from envhub.feed.heartbeat import Heartbeat
from envhub.feed.lease import Arrived, GroupLease
from envhub.feed.parts import Parts
from envhub.feed.requests import encode_submission
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.window import Granted, Window

__all__ = ["ClientTls", "Cursor", "FeedClient", "GroupLease", "TrainerGroup", "TrainerMember", "TrainerRow"]

logger = logging.getLogger(__name__)

REFUSED_AS = {pb.Notice.KIND_LEASE_LOST: LeaseLost, pb.Notice.KIND_FAILED: UpdateFailed}
SUBMIT_S = 3600.0  # that a submission may wait for room in the run


class FeedClient:
    """A consumer of a feed. Dials at once, and again whenever the connection breaks. Not thread-safe.

    Raises:
        FeedUnavailable: no feed answered for `reconnect_s`.
        UsageError: no consumer, a token that would cross the network in the clear, or the server refused.
    """

    def __init__(
        self,
        address: str,
        *,
        consumer: str,
        token: str | None = None,
        tls: ClientTls | None = None,
        rank: int = 0,
        ranks: int = 0,
        cursor: Cursor | None = None,
        heartbeat: bool = True,
        reconnect_s: float = 300.0,
    ) -> None:
        """`rank` of `ranks`: this process of a data parallel trainer; each rank gets whole groups. `cursor`: of the
        checkpoint that it goes on from. `heartbeat`: leases are extended for as long as the process lives; without,
        `lease.extend` does it."""
        self._window: Window | None = None  # none was asked for yet
        self._granted = Granted()
        self._parts = Parts()
        self._ready: deque[Arrived] = deque()
        self._held: dict[GroupId, _Held] = {}  # given to the trainer, not settled
        self._trained: dict[GroupId, LeaseId] = {}  # in the weights, to be acked with the next checkpoint
        self._short: pb.Notice | None = None  # of the group that is next in line, where the credit does not cover it
        self.cursor = cursor or Cursor()
        self._heartbeat = Heartbeat(self._extend_later) if heartbeat else None
        self._server = Conversation(
            Dial(address, consumer, token, tls, rank, ranks), reconnect_s, self._hear, self._lose
        )
        self._server.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream; every lease that was not settled goes back at once. Idempotent."""
        if self._heartbeat:
            self._heartbeat.stop()
        self._server.close()

    def groups(
        self, credit: int = 4, *, max_tokens: int | None = None, max_bytes: int | None = None
    ) -> Iterator[GroupLease]:
        """Leases, until the run is drained; at most `credit` groups, with so many tokens and bytes, are on their way or
        unsettled at any time.

        A group that is in the cursor but comes again, since its ack met a lost lease or its checkpoint came before it,
        is acked unseen. A group that is held while it comes again keeps its place: its lease is renewed. The run is not
        drained while a group is held, here or elsewhere: settle what you hold before you wait for the last ones.

        Raises:
            FeedUnavailable: the feed went away and did not come back.
            UsageError: a credit outside 1..1024, or all of it is held, so that nothing more could ever arrive, or the
                next group is larger than all of it.
        """
        window = Window(credit, max_tokens, max_bytes)
        if self._window is not None and self._window.counts != window.counts:
            raise UsageError("whether the credit counts tokens or bytes can't change; use another client for that")
        self._window = window
        return self._leases(window)

    def fetch(self, groups: int) -> list[GroupLease]:
        """The next so many groups, for a trainer that works in steps; fewer once the run is drained.

        Raises:
            FeedUnavailable, UsageError: as groups.
        """
        return list(islice(self.groups(groups + len(self._held)), groups))

    def ack_trained(self) -> int:
        """Acks the groups that were `trained`: to be called once a checkpoint with them and the cursor is saved. How
        many acks are durable; the others met lost leases, and come again to be acked unseen."""
        return sum(
            self._settle(group_id, lease_id, pb.ClientMessage(ack=pb.Ack(lease_id=lease_id)))
            for group_id, lease_id in list(self._trained.items())
        )

    def submit(
        self,
        environment: str,
        task: Task,
        *,
        k: int = 4,
        key: str = "",
        policy_id: str = "",
        sampling: Sampling = Sampling(),
        priority: int = 0,
    ) -> GroupId:
        """Has `k` rollouts of a task run; waits while the run has no room. The same `key` again, also from another
        process, means the same group; by default it is one of this call's own.

        Raises:
            FeedUnavailable: the feed went away and did not come back.
            UsageError: no such environment, or it can't run; the run is draining; the key is another group's.
        """
        request = encode_submission(
            environment, task, k=k, key=key, policy_id=policy_id, sampling=sampling, priority=priority
        )
        return GroupId(self._server.call("Submit", request, SUBMIT_S).group_id)

    def cancel(self, group_id: GroupId) -> None:
        """Ends a group that runs: nothing of it is delivered.

        Raises:
            UsageError: it has ended, or was never submitted.
        """
        self._server.call("Cancel", pb.CancelRequest(group_id=group_id), ANSWER_S)

    def announce(self, version: int, policy_id: str = TRAINED) -> None:
        """Says that `version` is the newest of a policy. Durable once it returns; idle once the run is drained and its
        feed gone.

        Raises:
            UsageError: a version below the newest announced one.
        """
        try:
            self._ask(pb.ClientMessage(version=pb.Version(policy_id=policy_id, version=version)))
        except FeedUnavailable:
            if not self._server.over:
                raise

    def update(
        self, version: int, weights: str = "", *, policy_id: str = TRAINED, deadline_s: float = UPDATE_S
    ) -> None:
        """Has the engines of a policy read new weights ("": where they read theirs before), and announces them. What
        they were generating goes on under them; it is live once this returns. Asked again for a version that is live,
        it does nothing.

        Raises:
            UsageError: a version below the newest, another update of that policy, or engines that take no new weights.
            UpdateFailed: no engine has the weights, or not within `deadline_s`; generation goes on under the old ones.
        """
        update = pb.Update(policy_id=policy_id, version=version, weights=weights, deadline_s=deadline_s)
        self._ask(pb.ClientMessage(update=update), deadline_s + ANSWER_S)

    def begin_update(self, version: int, *, policy_id: str = TRAINED, deadline_s: float = UPDATE_S) -> None:
        """Returns once the engines of a policy hold still, so that the trainer can put new weights into them itself.
        They do until `finish_update`, or for `deadline_s`.

        Raises:
            UsageError, UpdateFailed: as update.
        """
        begin = pb.BeginUpdate(policy_id=policy_id, version=version, deadline_s=deadline_s)
        self._ask(pb.ClientMessage(begin_update=begin), deadline_s + ANSWER_S)

    def finish_update(self, version: int, *, policy_id: str = TRAINED) -> None:
        """Announces the weights that the trainer has put in, once engines show that version; an engine that does not
        generates no more. To be called also where the transfer failed: then it says so, and engines go on.

        Raises:
            UsageError: the update was not begun, or has failed since.
            UpdateFailed: no engine has that version; generation goes on under the old one.
        """
        finish = pb.FinishUpdate(policy_id=policy_id, version=version)
        self._ask(pb.ClientMessage(finish_update=finish), UPDATE_S)

    def move_server(self, server: str, policy_id: str, weights: str = "") -> None:
        """Has an engine server generate for another policy, with that one's weights ("": those of its last update).

        Raises:
            UsageError: no such server or policy, no weights known, or an update is going on.
            UpdateFailed: it did not take the weights; it serves nobody until it is moved again.
        """
        move = pb.MoveServer(server=server, policy_id=policy_id, weights=weights)
        self._ask(pb.ClientMessage(move_server=move), UPDATE_S + ANSWER_S)

    def _leases(self, window: Window) -> Iterator[GroupLease]:
        while (arrived := self._next(window)) is not None:
            group, group_id = arrived.group, arrived.group.group_id
            if group_id in self._trained:
                self._let_go(self._trained[group_id])
                self._trained[group_id] = arrived.lease_id
                self._keep_alive(arrived)
            elif group_id in self._held:
                lease = self._held[group_id].lease
                self._let_go(lease.lease_id)
                lease.renew(arrived)
                self._held[group_id] = _Held(lease, arrived)
                self._keep_alive(arrived)
            elif (group.run_id, group.number) in self.cursor:
                self._server.ask(pb.ClientMessage(ack=pb.Ack(lease_id=arrived.lease_id)))  # lost again, it comes again
            else:
                lease = GroupLease(self, arrived)
                self._held[group_id] = _Held(lease, arrived)
                self._keep_alive(arrived)
                yield lease

    def _next(self, window: Window) -> Arrived | None:
        """The next delivery, or None once the run is drained."""

        def top_up(connection: Connection) -> None:
            credit = self._granted.top_up(window, (*self._ready, *(held.arrived for held in self._held.values())))
            if credit is not None:
                self._short = None
                connection.send(pb.ClientMessage(credit=credit))

        def wait(connection: Connection) -> None:
            top_up(connection)
            self._server.listen(connection)

        if not self._server.over:
            self._server.keep(top_up)  # so that more is on its way while the trainer computes
        while not self._ready:
            if self._server.over:
                return None
            self._check_not_stuck(window)
            self._server.keep(wait)
        return self._ready.popleft()

    def _check_not_stuck(self, window: Window) -> None:
        """
        Raises:
            UsageError: nothing could ever arrive.
        """
        short = self._short
        if short is not None and not window.fits(short.tokens, short.bytes):
            raise UsageError(
                f"group '{short.group_id}' has {short.tokens} tokens in {short.bytes} bytes, more than the whole "
                "credit; ask for groups(max_tokens=..., max_bytes=...) with as many, or without"
            )
        if short is not None and self._held:
            raise UsageError(f"group '{short.group_id}' needs credit that is held unsettled; ack or nack a group first")
        if len(self._held) >= window.groups:
            raise UsageError(
                f"all {window.groups} groups of the credit are held unsettled, so no other can arrive; "
                "ack or nack one first, or ask for groups(credit=...) with more"
            )

    def _hear(self, message: pb.ServerMessage) -> None:
        """Keeps what the server says for later."""
        match message.WhichOneof("kind"):
            case "delivery":
                self._arrive(message.delivery, message.delivery.ByteSize())
            case "part":
                whole = self._parts.add(message.part)
                if whole is not None:
                    self._arrive(pb.Delivery.FromString(whole), len(whole))
            case "end":
                self._server.over = True
            case "notice" if message.notice.kind == pb.Notice.KIND_SHORT_OF_CREDIT:
                self._short = message.notice
            case "notice":
                logger.warning("%s", message.notice.message)

    def _arrive(self, delivery: pb.Delivery, size: int) -> None:
        arrived = Arrived.of(delivery, size)
        self._granted.spend(arrived)
        self._ready.append(arrived)

    def _lose(self) -> None:
        """What was ready goes back as the stream ends; what is held may still be settled on the next one."""
        self._ready.clear()
        self._granted = Granted()
        self._parts = Parts()
        self._short = None

    def _ask(self, message: pb.ClientMessage, timeout_s: float = ANSWER_S) -> pb.Done:
        """What the server answers.

        Raises:
            LeaseLost, UsageError, UpdateFailed: as the server says.
        """
        answer = self._server.ask(message, timeout_s)
        if isinstance(answer, pb.Done):
            return answer
        if answer.kind == pb.Notice.KIND_ALREADY_ACKED:  # the first answer was lost
            return pb.Done(lease_id=answer.lease_id)
        raise REFUSED_AS.get(answer.kind, UsageError)(answer.message)

    def settle(self, lease: GroupLease, message: pb.ClientMessage) -> bool:
        """Whether the lease was still ours. What leases call."""
        return self._settle(lease.group_id, lease.lease_id, message)

    def consume(self, lease: GroupLease) -> None:
        """Notes that its group is in the weights. What leases call."""
        self.cursor.add(lease.group.run_id, lease.group.number)

    def put_by(self, lease: GroupLease) -> None:
        """Keeps it for the next checkpoint. What leases call."""
        if self._held.pop(lease.group_id, None) is not None:
            self._trained[lease.group_id] = lease.lease_id

    def prolong(self, lease_id: LeaseId) -> float:
        """The new deadline of a lease. What leases call."""
        return self._ask(pb.ClientMessage(extend=pb.Extend(lease_id=lease_id))).deadline

    def _settle(self, group_id: GroupId, lease_id: LeaseId, message: pb.ClientMessage) -> bool:
        try:
            self._ask(message)
        except LeaseLost:
            return False
        finally:
            self._held.pop(group_id, None)
            self._trained.pop(group_id, None)
            self._let_go(lease_id)
        return True

    def _keep_alive(self, arrived: Arrived) -> None:
        if self._heartbeat:
            self._heartbeat.hold(arrived.lease_id, arrived.lease_s)

    def _let_go(self, lease_id: LeaseId) -> None:
        if self._heartbeat:
            self._heartbeat.let_go(lease_id)

    def _extend_later(self, lease_id: LeaseId) -> None:
        self._server.tell(pb.ClientMessage(extend=pb.Extend(lease_id=lease_id)))


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease, and what it takes of the credit."""

    lease: GroupLease
    arrived: Arrived
