"""Weights: what a trainer says of its policies' weights: which are the newest, and how the engines come by them."""

from envhub.contracts.delivery import UPDATE_S
from envhub.contracts.ids import TRAINED
from envhub.errors import FeedUnavailable, LeaseLost, UpdateFailed, UsageError
from envhub.feed.connection import ANSWER_S
from envhub.feed.conversation import Conversation
from envhub.feed.v1 import feed_pb2 as pb

REFUSED_AS = {pb.Notice.KIND_LEASE_LOST: LeaseLost, pb.Notice.KIND_FAILED: UpdateFailed}


class Weights:
    """What a FeedClient can do about them."""

    def __init__(self, server: Conversation) -> None:
        self._server = server

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
