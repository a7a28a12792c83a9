"""Rollouts over Tinker's own types: a SamplingClient is what a service gives, so here a script answers in its place."""

from pathlib import Path

import numpy as np
import pytest

from envhub.app import Settings
from envhub.contracts.turn import Sampling
from envhub.rollouts.job import Job
from envhub.trainers.pull.samples import Rows
from tests.trainers.embedded.sampling_trainer import ARITHMETIC, CONTEXT, Trainer
from tests.trainers.embedded.test_engine import SavedTokenizer

tinker = pytest.importorskip("tinker", reason="tinker is not installed")

from envhub.trainers.embedded.tinker import Rollouts  # noqa: E402

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]

JOB = Job((ARITHMETIC,), k=8, sampling=Sampling(temperature=0.7, max_tokens=8))


class Client:
    """A SamplingClient, as far as rollouts ask of it."""

    def __init__(self) -> None:
        self.trainer = Trainer()
        self.params: list[tinker.SamplingParams] = []

    async def sample_async(self, prompt, num_samples, sampling_params):
        self.params.append(sampling_params)
        sampled = await self.trainer.sample(prompt.to_ints(), sampling_params.max_tokens, list(sampling_params.stop))
        ids, logprobs = np.array(sampled.ids, np.int32), np.array(sampled.logprobs, np.float32)
        sequence = tinker.SampledSequence("stop", "s", tokens_np=ids, logprobs_np=logprobs)
        return tinker.SampleResponse(sequences=[sequence])


async def test_groups_become_datums_of_what_the_client_sampled(tmp_path: Path):
    client = Client()
    settings = Settings(str(tmp_path / "run.db"), sandbox="process")
    with Rollouts(SavedTokenizer(), JOB, settings, context_tokens=CONTEXT) as rollouts:
        datums = await rollouts.datums(client, 3, rollouts.rows()[:2], Rows.ONE)
    assert len(datums) == 16
    assert all(isinstance(datum, tinker.Datum) for datum in datums)
    for group in (datums[:8], datums[8:]):
        advantages = [datum.loss_fn_inputs["advantages"].to_numpy() for datum in group]
        assert abs(sum(float(array[array != 0].mean()) for array in advantages if array.any())) < 1e-5
    for datum in datums:
        targets, logprobs = (datum.loss_fn_inputs[name].to_numpy() for name in ("target_tokens", "logprobs"))
        assert datum.model_input.to_ints()[1:] == targets[:-1].tolist()
        assert targets[-1] == 257
        assert logprobs[-1] < 0


async def test_the_client_is_asked_as_the_job_says(tmp_path: Path):
    client = Client()
    settings = Settings(str(tmp_path / "run.db"), sandbox="process")
    with Rollouts(SavedTokenizer(), JOB, settings, context_tokens=CONTEXT) as rollouts:
        await rollouts.datums(client, 0, rollouts.rows()[:1])
    assert {(params.temperature, params.max_tokens, params.top_p) for params in client.params} == {(0.7, 8, 1.0)}
    assert len({params.seed for params in client.params}) == 8
