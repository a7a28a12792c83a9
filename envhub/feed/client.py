"""FeedClient: groups for a trainer, leased one by one; needs numpy, protobuf and grpcio, and nothing else.

with FeedClient("127.0.0.1:50051", consumer="trainer-0") as feed:
    for lease in feed.groups(credit=4):
        train(lease.group)
        lease.ack()
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from envhub.contracts.ids import GroupId, LeaseId
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import LeaseLost, UsageError
from envhub.feed.arrivals import Arrivals
from envhub.feed.codec import TrainerGroup, TrainerMember, TrainerRow
from envhub.feed.connection import ANSWER_S, ClientTls, Connection, Dial
from envhub.feed.conversation import Conversation
from envhub.feed.cursor import Cursor
from envhub.feed.files import filled, missing
from envhub.feed.heartbeat import Heartbeat
from envhub.feed.lease import Arrived, GroupLease
from envhub.feed.requests import encode_submission
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.weights import Weights
from envhub.feed.window import MAX_CREDIT, Window

__all__ = ["ClientTls", "Cursor", "FeedClient", "GroupLease", "TrainerGroup", "TrainerMember", "TrainerRow"]

FILE_S = 600.0  # that a file may take
SUBMIT_S = 3600.0  # that a submission may wait for room in the run


class FeedClient(Weights):
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
        self._arrivals = Arrivals()
        self._held: dict[GroupId, _Held] = {}  # given to the trainer, not settled
        self._trained: dict[GroupId, LeaseId] = {}  # in the weights, to be acked with the next checkpoint
        self.cursor = Cursor() if cursor is None else cursor
        self._heartbeat = Heartbeat(self._extend_later) if heartbeat else None
        dial = Dial(address, consumer, token, tls, rank, ranks)
        super().__init__(Conversation(dial, reconnect_s, self._hear, self._arrivals.forget))
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

    def with_files(self, group: TrainerGroup) -> TrainerGroup:
        """The group with the files that its rows name: pictures, sampling masks, routed experts. Deliveries come
        without; of a group that names none nothing is asked.

        Raises:
            FeedUnavailable: the feed went away and did not come back.
            UsageError: the run has no such file.
        """
        files = {sha256: self._server.file(sha256, FILE_S) for sha256 in sorted(missing(group))}
        return filled(group, files) if files else group

    def ack_trained(self) -> int:
        """Acks the groups that were `trained`, all at once: to be called when a checkpoint with them and the cursor is
        saved. How many acks are durable; the others met lost leases, and come again to be acked unseen.

        Raises:
            FeedUnavailable: the feed went away and did not come back; it can be called again.
        """
        durable = 0
        while trained := list(islice(self._trained.items(), MAX_CREDIT)):
            acks = [pb.ClientMessage(ack=pb.Ack(lease_id=lease_id)) for _, lease_id in trained]
            answers = self._server.call("Settle", pb.SettleRequest(messages=acks), ANSWER_S).answers
            for (group_id, lease_id), answer in zip(trained, answers, strict=True):
                durable += answer.notice.kind != pb.Notice.KIND_LEASE_LOST
                del self._trained[group_id]
                self._let_go(lease_id)
        return durable

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
            credit = self._arrivals.credit(window, (held.arrived for held in self._held.values()))
            if credit is not None:
                connection.send(pb.ClientMessage(credit=credit))

        def wait(connection: Connection) -> None:
            top_up(connection)
            self._server.listen(connection)

        if not self._server.over:
            self._server.keep(top_up)  # so that more is on its way while the trainer computes
        while (arrived := self._arrivals.take()) is None:
            if self._server.over:
                return None
            self._arrivals.check_not_stuck(window, len(self._held))
            self._server.keep(wait)
        return arrived

    def _hear(self, message: pb.ServerMessage) -> None:
        if message.WhichOneof("kind") == "end":
            self._server.over = True
        else:
            self._arrivals.hear(message)

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
