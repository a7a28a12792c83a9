"""Long groups in a store, as a run leaves them that closed them and ended before its trainer came."""

from benchmarks.feed_parts.groups import MEMBERS, group_of, turns_of
from envhub.contracts.events import GroupClosed, GroupSubmitted, RolloutEnded, RolloutStarted, RunStarted, TurnRecorded
from envhub.contracts.ids import TRAINED, PolicyVersion, RolloutId, RunId
from envhub.contracts.messages import Message, Role
from envhub.contracts.outcome import Outcome
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.store import TraceStore
from envhub.contracts.turn import Finish, Fork, Sampling, Span, Turn
from envhub.contracts.usage import Usage
from envhub.testing.fake_deliveries import RUN


async def record(store: TraceStore, groups: int, tokens: int) -> None:
    """Puts so many groups of eight rows into a store."""
    await store.append([RunStarted(RunId(RUN), 0.0, 0, {"job": None, "model": {}, "feed": True, "policies": {}})])
    for number in range(groups):
        group = group_of(number, tokens)
        await store.append([GroupSubmitted(RUN, 0.0, group.group_id, number, group.request)])
        for member, outcome in enumerate(group.outcomes):
            await store.append(_rollout(group.request, number, member, outcome))
        await store.append([GroupClosed(RUN, 0.0, group.group_id, tuple(range(MEMBERS)), PolicyVersion(0))])


def _rollout(request: GroupRequest, number: int, member: int, outcome: Outcome) -> list[object]:
    id = outcome.rollout_id
    group_id = RolloutId(id).rsplit("-", 2)[0]
    started = RolloutStarted(RUN, 0.0, id, group_id, member, 0, None, id, request.rollout, 0, 0)
    turns = [TurnRecorded(RUN, 0.0, id, turn) for turn in _turns(outcome)]
    ended = RolloutEnded(RUN, 0.0, id, outcome.status, outcome.score, None, "", "", Usage())
    return [started, *turns, ended]


def _turns(outcome: Outcome) -> list[Turn]:
    """The turns whose row is the outcome's."""
    row = outcome.trajectory.rows[0]
    turns = turns_of(len(row.ids))
    half = len(row.ids) // turns // 2
    sampled = Span(0, half, Role.ASSISTANT, True, True, TRAINED, PolicyVersion(3), 1.0)
    return [
        Turn(
            index=turn,
            policy_id=TRAINED,
            parent=turn - 1 if turn else None,
            fork=Fork.NONE,
            messages=(Message.user("x"),),
            tools=(),
            delta_ids=row.ids[2 * turn * half : (2 * turn + 1) * half],
            output_ids=row.ids[(2 * turn + 1) * half : (2 * turn + 2) * half],
            logprobs=row.logprobs[(2 * turn + 1) * half : (2 * turn + 2) * half],
            spans=(sampled,),
            response=Message.assistant("y"),
            finish=Finish.STOP,
            sampling=Sampling(),
            asked={},
            logprob_kind="exact",
        )
        for turn in range(turns)
    ]
