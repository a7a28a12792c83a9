"""Tinker: rollouts that sample from a SamplingClient, as the Datum of a training step."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import tinker

from envhub.app.settings import Settings
from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.rollouts.job import Job
from envhub.trainers.embedded.engine import Sampled, TrainerEngine, trainer_model
from envhub.trainers.embedded.run import EmbeddedRun, scored
from envhub.trainers.embedded.tasks import TaskRows
from envhub.trainers.pull.samples import Rows
from envhub.trainers.pull.tinker import datums


class Rollouts:
    """Rollouts of a job. `tokenizer`: of transformers, as `SamplingClient.get_tokenizer` has it; `context_tokens`: the
    most that prompt and answer may have together. Close it, or use it as a context manager.

    Raises:
        UsageError: the job or the settings can't be had.
    """

    def __init__(self, tokenizer: Any, job: Job, settings: Settings = Settings(), *, context_tokens: int) -> None:
        self._job = job
        self._engine = TrainerEngine(context_tokens)
        self._tasks = TaskRows(job)
        self._run = EmbeddedRun(trainer_model(self._engine, tokenizer, "tinker"), job, settings)

    def rows(self) -> list[dict[str, Any]]:
        """All tasks of the job's environments, for `datums`."""
        return self._tasks.rows()

    async def datums(
        self,
        sampling_client: tinker.SamplingClient,
        step: int,
        rows: Sequence[Mapping[str, Any]],
        branches: Rows = Rows.ALL,
    ) -> list[tinker.Datum]:
        """A group of the job's `k` for each row, sampled from that client, whose weights are of that step. Inputs are
        those of the loss functions importance_sampling and ppo; advantages are the reward less its group's mean.

        Raises:
            UsageError: a row that names no task.
            Fault: all members of a group failed.
        """

        async def sampled(request: EngineRequest) -> Sampled:
            return await _sampled(sampling_client, PolicyVersion(step), request)

        self._engine.sample_with(sampled)
        requests = [self._tasks.request(row, self._job.k, self._job.sampling) for row in rows]
        groups = [scored(played) for played in await self._run.played(requests)]
        return [
            tinker.Datum(tinker.ModelInput.from_ints(record["tokens"]), record["loss_fn_inputs"])
            for group in groups
            for record in datums(group, branches)
        ]

    def close(self) -> None:
        """Ends the run. Idempotent."""
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _sampled(client: Any, version: PolicyVersion, request: EngineRequest) -> Sampled:
    sampling = request.sampling
    asked = tinker.SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        seed=sampling.seed,
        stop=sorted(request.stop_ids),
    )
    prompt = tinker.ModelInput.from_ints(request.prompt_ids.tolist())
    response = await client.sample_async(prompt=prompt, num_samples=1, sampling_params=asked)
    (sequence,) = response.sequences
    return Sampled(sequence.tokens, sequence.logprobs, version)
