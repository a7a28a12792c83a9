"""Invariants 1, 2 and 3 of the trace, over rollouts that do whatever agents do to their history."""

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.engine import EngineChunk
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.messages import Message
from envhub.contracts.turn import Finish
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE
from envhub.tokens.rows import trajectory

PIECES = ["<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>", '{"name": "f"}', "</think>", "\n", " ", "\ue000"]
TEXT = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(PIECES), max_size=4)
CONTENT = TEXT.map("".join)
NEW = st.lists(
    st.builds(Message.user, CONTENT)
    | st.builds(Message.system, CONTENT)
    | st.builds(Message.tool, CONTENT, st.sampled_from(["c00000000", ""])),
    max_size=2,
)
ID = st.integers(0, 256) | st.sampled_from([256, *b"<tool_call>"])


@st.composite
def answers(draw) -> list[EngineChunk]:
    """Any ids in any chunks and versions, ended by a stop id or cut."""
    chunks = draw(st.lists(st.tuples(st.lists(ID, max_size=6), st.integers(0, 2)), max_size=3))
    chunks.append(([257] if draw(st.booleans()) else draw(st.lists(ID, max_size=2)), draw(st.integers(0, 2))))
    finish = Finish.STOP if chunks[-1][0] == [257] else Finish.LENGTH
    return [
        EngineChunk(
            np.array(ids, np.int32),
            np.linspace(-3, 0, len(ids), dtype=np.float32),
            PolicyVersion(version),
            finish if number == len(chunks) else None,
        )
        for number, (ids, version) in enumerate(chunks, 1)
    ]


# What an agent does next: to which earlier conversation, what it changes of it, and what it says.
MOVES = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.sampled_from(["go on", "go on", "go on", "again", "edit", "drop", "side call", "twice at once"]),
        NEW,
        answers(),
    ),
    min_size=1,
    max_size=6,
)


async def play(rollout, moves) -> None:
    conversations: list[tuple[Message, ...]] = [(Message.user("q"),)]
    for pick, kind, new, answer in moves:
        base = conversations[pick % len(conversations) if kind == "again" else -1]
        match kind:
            case "edit":
                base = (*base[: pick % len(base)], Message.assistant("rewritten"), *base[pick % len(base) + 1 :])
            case "drop":
                base = base[: 1 + pick % len(base)]
            case "side call":
                base = (Message.user("title?"),)
        messages = (*base, *new)
        rollout.engine.answers += [lambda _, answer=answer: answer] * 2
        async with anyio.create_task_group() as tasks:
            if kind == "twice at once":
                tasks.start_soon(rollout.act, *messages)
            action = await rollout.act(*messages)
        rollout.engine.answers.clear()
        conversations.append((*messages, action.message))


@given(moves=MOVES)
@pytest.mark.parametrize("template", ["chatml", "native"])
def test_the_trace_of_any_rollout_holds_the_invariants(make_rollout, native_template, template, moves):
    rollout = make_rollout(template=CHATML_TEMPLATE if template == "chatml" else native_template)
    anyio.run(play, rollout, moves)
    by_index = {turn.index: turn for turn in rollout.turns}
    prompts = {int(request.request_id.split("/")[1]): request.prompt_ids for request in rollout.engine.requests}

    for turn in rollout.turns:  # 1: token in, token out
        before = []
        if turn.parent is not None:
            before = [prompts[turn.parent], by_index[turn.parent].output_ids]
        assert prompts[turn.index].tolist() == np.concatenate((*before, turn.delta_ids)).tolist()

    for turn in rollout.turns:  # 2: a logprob and a version for every sampled token
        assert len(turn.output_ids) == len(turn.logprobs)
        assert np.isfinite(turn.logprobs).all() and (turn.logprobs <= 0).all()
        assert tiles(turn.spans, len(turn.output_ids))
        assert all(span.policy_version >= 0 for span in turn.spans)

    rows = trajectory(rollout.turns).rows
    trained: list[tuple[int, int]] = []  # turn and offset in it
    for row in rows:
        assert len(row.ids) == len(row.logprobs)
        assert tiles(row.spans, len(row.ids))
        assert not row.logprobs[~row.mask(trainable=False)].any()
        assert (row.mask(trainable=False) >= row.mask(trainable=True)).all()
        leaf = row.turns[-1]
        assert row.ids.tolist() == [*prompts[leaf].tolist(), *by_index[leaf].output_ids.tolist()]
        if row.parent is not None:
            assert row.ids[: row.fork_at].tolist() == rows[row.parent].ids[: row.fork_at].tolist()
        for span in row.spans:
            offset = span.start - len(prompts[span.turn]) if span.sampled else 0
            trained += [(span.turn, offset + place) for place in range(span.end - span.start) if span.trainable]
    sampled = [(turn.index, offset) for turn in rollout.turns for offset in range(len(turn.output_ids))]
    assert sorted(trained) == sorted(sampled)  # 3: every sampled token trains once


def tiles(spans, length: int) -> bool:
    ends = [0, *(span.end for span in spans)]
    return ends[-1] == length and [span.start for span in spans] == ends[:-1] and all(s.start < s.end for s in spans)
