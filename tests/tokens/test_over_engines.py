"""TokenPolicy over the engines that ship."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from envhub.contracts.engine import EngineOptions, Model
from envhub.contracts.ids import TRAINED, RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import PolicyInput
from envhub.contracts.turn import Sampling, Turn
from envhub.engines import scripted
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.ledger import Ledger
from envhub.tokens.policy import TokenPolicy
from envhub.tokens.rows import trajectory

pytestmark = pytest.mark.anyio


async def converse(model: Model, seed: int) -> list[Turn]:
    """Three turns: a chain of two, and another try of the second."""
    turns: list[Turn] = []
    policy = TokenPolicy(
        model,
        ChatRenderer.of(model),
        Ledger(),
        policy_id=TRAINED,
        rollout_id=RolloutId("run-0-0-0"),
        trainable=True,
        sampling=Sampling(max_tokens=8),
        seed=seed,
        record=turns.append,
    )
    question = Message.user("1 + 1?")
    first = await policy.act(PolicyInput((question,)))
    for _ in range(2):
        await policy.act(PolicyInput((question, first.message, Message.user("2 + 2?"))))
    return turns


def signature(turns: list[Turn]) -> list[object]:
    """All of a trace but its timings."""
    return [
        (turn.index, turn.parent, turn.fork, turn.delta_ids.tolist(), turn.output_ids.tolist(), turn.logprobs.tolist())
        for turn in turns
    ]


async def test_the_same_seed_gives_the_same_trace_and_another_another():
    model = scripted.load(EngineOptions())
    first, again, other = [signature(await converse(model, seed)) for seed in (1, 1, 2)]
    assert first == again != other


@pytest.fixture(scope="module")
async def smollm2() -> AsyncIterator[Model]:
    embedded = pytest.importorskip("envhub.engines.embedded")
    model = embedded.load(EngineOptions(threads=1))
    yield model
    await model.engine.close()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.engines
async def test_a_real_models_turns_become_rows_of_exact_tokens(smollm2: Model):
    turns = await converse(smollm2, seed=1)
    assert [turn.parent for turn in turns] == [None, 0, 0]
    one, two = trajectory(turns).rows
    assert two.ids[: two.fork_at].tolist() == one.ids[: two.fork_at].tolist()
    assert sum(row.mask(trainable=True).sum() for row in (one, two)) == sum(len(turn.output_ids) for turn in turns)
    assert all(np.isfinite(turn.logprobs).all() and (turn.logprobs <= 0).all() for turn in turns)
