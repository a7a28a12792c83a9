"""What a real model drew from and routed to, all the way: engine, store, feed, client, the tensors of a trainer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation
from envhub.contracts.policy import PolicyInput
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.feed.client import FeedClient
from envhub.feed.codec import TrainerGroup
from envhub.feed.server import serve
from envhub.monitor.verify import verify
from envhub.registry import agents
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.runs import open_scripted_run, request
from envhub.trainers.batch import TokenBatch
from envhub.trainers.layout import padded, put, shifted
from envhub.trainers.objective import K25Settings
from envhub.trainers.pull.samples import samples
from tests.feed.feeding import in_thread
from tests.rollouts.worlds import THREE

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
transformers = pytest.importorskip("transformers", reason="the torch extra is not installed")

from envhub.engines.in_process.torch_check import check_model  # noqa: E402
from envhub.engines.transformers import TransformersEngine  # noqa: E402
from envhub.trainers.torch_objective import collate, token_logprobs  # noqa: E402

pytestmark = pytest.mark.anyio

TAKEN = 2  # experts, of eight
SAMPLING = Sampling(temperature=0.8, max_tokens=12, top_k=40, top_p=0.7)


class Undaunted:
    """Goes on where the model did not come to an end."""

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        said = list(observation.messages)
        while True:
            action = await ctx.policy().act(PolicyInput(tuple(said), sampling=SAMPLING))
            result = await environment.step(action)
            if result.terminated:
                return
            said += [action.message, *result.observation.messages]


agents.register("test-undaunted", Undaunted)


def network() -> Any:
    """A model of random weights, the same ones each time."""
    config = transformers.Qwen3MoeConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=8,
        num_experts_per_tok=TAKEN,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@asynccontextmanager
async def played(database: Path) -> AsyncIterator[tuple[SqlTraceStore, TrainerGroup, TrainerGroup]]:
    """The store, and the group of two rollouts of three turns as it was delivered, without files and with them."""
    store = await open_store(str(database))
    model = network()
    check_model(model)
    engine = TransformersEngine(model, max_batch=4)
    async with open_scripted_run("", store=store, around=lambda _: engine, lease_s=60.0) as run:
        await run.manager.start(request("test/walk-v0", task=THREE, k=2, agent="test-undaunted"))
        async with serve(run.feed, run.manager, blobs=store.file) as address:
            groups = await in_thread(taken, address)
    yield store, *groups
    await engine.close()
    await store.close()


def taken(address: str) -> tuple[TrainerGroup, TrainerGroup]:
    with FeedClient(address, consumer="trainer") as feed:
        (lease,) = feed.fetch(1)
        groups = lease.group, feed.with_files(lease.group)
        assert lease.ack()
        return groups


async def test_a_trainer_computes_the_recorded_log_probabilities_among_the_ids_that_were_left(tmp_path: Path) -> None:
    async with played(tmp_path / "runs.db") as (_, _, group):
        batch = TokenBatch.of([group])
    assert batch.sampling_mask is not None
    sizes = np.diff(batch.sampling_mask.offsets)
    assert ((sizes > 0) == batch.trainable).all()
    assert 1 <= sizes[batch.trainable].min() < sizes.max() <= SAMPLING.top_k
    places = shifted(batch, padded(batch))
    tokens = collate(batch, places, K25Settings(-0.7, 0.7, 0.1))
    with torch.no_grad():
        logits = network()(tokens.inputs, attention_mask=tokens.present, position_ids=tokens.positions).logits
    again = np.zeros(len(batch.ids))
    put(again, places[1], token_logprobs(logits, tokens).double().numpy())
    assert np.abs(again - batch.logprobs)[batch.trainable].max() < 1e-4
    unmasked = token_logprobs(logits, replace(tokens, allowed=None))
    put(again, places[1], unmasked.double().numpy())
    assert np.abs(again - batch.logprobs)[batch.trainable].max() > 0.1  # without the masks they are not the recorded


async def test_a_trainer_gets_the_experts_of_every_token_that_the_model_read(tmp_path: Path) -> None:
    async with played(tmp_path / "runs.db") as (_, _, group):
        taken = samples(group)
    assert [len(sample.row.row.turns) for sample in taken] == [3, 3]
    for sample in taken:
        with torch.no_grad():
            routers = network()(torch.tensor([sample.ids[:-1].tolist()]), output_router_logits=True).router_logits
        expected = torch.stack([logits.topk(TAKEN).indices for logits in routers], dim=1)
        assert sample.experts is not None
        assert sample.experts.tolist() == expected.tolist()


async def test_a_group_is_no_use_to_a_trainer_without_the_masks_that_it_names(tmp_path: Path) -> None:
    async with played(tmp_path / "runs.db") as (_, bare, _):
        with pytest.raises(UsageError, match=r"FeedClient\.with_files"):
            TokenBatch.of([bare])
        assert [(sample.experts, sample.sampling_mask) for sample in samples(bare)] == [(None, None)] * 2


async def test_verify_reads_what_was_stored(tmp_path: Path) -> None:
    async with played(tmp_path / "runs.db") as (store, _, group):
        assert (await verify(store)).findings == ()
        files = {file.sha256 for member in group.members for row in member.rows for file in row.row.files}
        assert len(files) == 12  # of six turns, a mask and experts each
        assert {await store.file(sha256) is not None for sha256 in files} == {True}
