"""What the server does as a client says, and how it answers: on streams, and to Settle."""

from collections.abc import Iterable

import anyio

from envhub.contracts.delivery import Control, Deliveries
from envhub.contracts.ids import LeaseId, PolicyId, PolicyVersion
from envhub.errors import LeaseLost, UpdateFailed, UsageError
from envhub.feed.v1 import feed_pb2 as pb

SETTLING = frozenset({"ack", "nack", "extend"})


class Answers:
    """Answers messages, each by one Done or Notice."""

    def __init__(self, deliveries: Deliveries, control: Control) -> None:
        self._deliveries = deliveries
        self._control = control

    async def to_all(self, messages: Iterable[pb.ClientMessage]) -> list[pb.ServerMessage]:
        """The answer to each. They are done in order, and become durable together."""
        answers: dict[int, pb.ServerMessage] = {}

        async def answer(place: int, message: pb.ClientMessage) -> None:
            answers[place] = await self.to(message)

        async with anyio.create_task_group() as tasks:
            for place, message in enumerate(messages):
                tasks.start_soon(answer, place, message)
        return [answers[place] for place in sorted(answers)]

    async def to(self, message: pb.ClientMessage) -> pb.ServerMessage:
        """The answer, once what was said is done."""
        lease_id = lease_of(message)
        kind, text, deadline = pb.Notice.KIND_UNSPECIFIED, "", 0.0
        try:
            if message.WhichOneof("kind") in SETTLING:
                deadline, first = await self._settle(message, lease_id)
                if not first:
                    kind, text = (
                        pb.Notice.KIND_ALREADY_ACKED,
                        f"lease '{lease_id}' was acked before; the group counts once",
                    )
            else:
                await self._steer(message)
        except LeaseLost as error:
            kind, text = pb.Notice.KIND_LEASE_LOST, str(error)
        except UsageError as error:
            kind, text = pb.Notice.KIND_REFUSED, str(error)
        except UpdateFailed as error:
            kind, text = pb.Notice.KIND_FAILED, str(error)
        if kind:
            notice = pb.Notice(kind=kind, lease_id=lease_id, message=text, answers=message.id)
            return pb.ServerMessage(notice=notice)
        return pb.ServerMessage(done=pb.Done(lease_id=lease_id, deadline=deadline, answers=message.id))

    async def _settle(self, message: pb.ClientMessage, lease_id: LeaseId) -> tuple[float, bool]:
        """The new deadline of an extended lease, else 0; and whether it was settled for the first time."""
        match message.WhichOneof("kind"):
            case "ack":
                return 0.0, await self._deliveries.ack(lease_id)
            case "nack":
                await self._deliveries.nack(lease_id, message.nack.reason)
                return 0.0, True
            case _:
                return await self._deliveries.extend(lease_id), True

    async def _steer(self, message: pb.ClientMessage) -> None:
        match message.WhichOneof("kind"):
            case "version":
                version = message.version
                await self._control.announce(PolicyId(version.policy_id), PolicyVersion(version.version))
            case "update":
                update = message.update
                policy_id, number = PolicyId(update.policy_id), PolicyVersion(update.version)
                await self._control.update(policy_id, number, weights=update.weights, deadline_s=update.deadline_s)
            case "begin_update":
                begin = message.begin_update
                policy_id, number = PolicyId(begin.policy_id), PolicyVersion(begin.version)
                await self._control.begin_update(policy_id, number, deadline_s=begin.deadline_s)
            case "finish_update":
                finish = message.finish_update
                await self._control.finish_update(PolicyId(finish.policy_id), PolicyVersion(finish.version))
            case "move_server":
                move = message.move_server
                await self._control.move_server(move.server, PolicyId(move.policy_id), weights=move.weights)
            case "open":
                raise UsageError("the stream is open already; Open is its first message only")
            case _:
                raise UsageError("this server does not know the message; update the server, or use an older client")


def settled_by(message: pb.ClientMessage, answer: pb.ServerMessage) -> bool:
    """Whether the lease that the message means is out of its consumer's hands now."""
    if answer.WhichOneof("kind") == "notice":
        return answer.notice.kind in (pb.Notice.KIND_LEASE_LOST, pb.Notice.KIND_ALREADY_ACKED)
    return message.WhichOneof("kind") in ("ack", "nack")


def lease_of(message: pb.ClientMessage) -> LeaseId:
    """The lease that an Ack, Nack or Extend means; empty for the rest."""
    body = getattr(message, message.WhichOneof("kind") or "open")
    return LeaseId(getattr(body, "lease_id", ""))
