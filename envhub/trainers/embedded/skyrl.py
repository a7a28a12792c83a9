"""SkyRL: a generator whose rollouts sample with SkyRL's own inference engines.

    class Experiment(BasePPOExp):
        def get_generator(self, cfg, tokenizer, inference_engine_client):
            job = Job(("envhub/arithmetic-v0",))
            return EnvhubGenerator(cfg.generator, inference_engine_client, tokenizer, job)

Rows of the data set name their task in the columns `environment` and `task_id`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from skyrl.train.generators.base import GeneratorInput, GeneratorInterface, GeneratorOutput

from envhub.app.settings import Settings
from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.turn import Sampling
from envhub.feed.codec import TrainerGroup
from envhub.rollouts.job import Job
from envhub.trainers.embedded.engine import Sampled, TrainerEngine, trainer_model
from envhub.trainers.embedded.run import EmbeddedRun, scored
from envhub.trainers.embedded.sampling import PLAIN, check_plain
from envhub.trainers.embedded.tasks import TaskRows
from envhub.trainers.pull.samples import Rows, samples
from envhub.trainers.pull.skyrl import generator_output


@dataclass(frozen=True, slots=True)
class _Asked:
    """A group, and SkyRL's own ids of its members."""

    request: GroupRequest
    ids: list[Any]


class EnvhubGenerator(GeneratorInterface):
    """Plays the rollouts of one prompt as a group. With `step_wise_trajectories` each branch is a row, without each
    rollout is one.

    Raises:
        UsageError: the job or the settings can't be had.
    """

    def __init__(
        self,
        generator_cfg: Any,
        inference_engine_client: Any,
        tokenizer: Any,
        job: Job,
        settings: Settings = Settings(),
    ) -> None:
        self._client = inference_engine_client
        self._most_tokens = generator_cfg.sampling_params.max_generate_length
        self._temperature = generator_cfg.sampling_params.temperature
        self._branches = Rows.ALL if generator_cfg.step_wise_trajectories else Rows.ONE
        self._engine = TrainerEngine(generator_cfg.max_input_length + self._most_tokens)
        self._rows = TaskRows(job)
        self._run = EmbeddedRun(
            trainer_model(self._engine, tokenizer, inference_engine_client.model_name), job, settings
        )
        self._step = PolicyVersion(0)  # of the trainer, by which SkyRL tells weights apart

    async def generate(self, input_batch: GeneratorInput, disable_tqdm: bool = False) -> GeneratorOutput:
        """
        Raises:
            UsageError: rows that name no task, or sampling that has no exact log probabilities.
            Fault: all members of a group failed.
        """
        self._engine.sample_with(self._sampled)
        self._step = PolicyVersion(input_batch["batch_metadata"].global_step)
        asked = list(self._asked(input_batch))
        played = await self._run.played([group.request for group in asked])
        outputs = [self._output(scored(group), one.ids) for group, one in zip(played, asked, strict=True)]
        return _joined(outputs)

    def close(self) -> None:
        """Ends the run. Idempotent."""
        self._run.close()

    def _asked(self, batch: GeneratorInput) -> Iterator[_Asked]:
        told = batch.get("sampling_params") or {}
        check_plain(told)
        temperature = told.get("temperature", self._temperature)
        sampling = Sampling(temperature=temperature, max_tokens=told.get("max_tokens", self._most_tokens))
        rows = zip(batch["trajectory_ids"], batch["env_extras"], strict=True)
        for _, same in groupby(rows, key=lambda row: row[0].instance_id):
            members = list(same)
            row = members[0][1]
            yield _Asked(self._rows.request(row, len(members), sampling), [id for id, _ in members])

    async def _sampled(self, request: EngineRequest) -> Sampled:
        sampling = request.sampling
        asked = {
            **PLAIN,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": sorted(request.stop_ids),
            "logprobs": 1,
            "skip_special_tokens": False,
        }
        output = await self._client.generate(
            {
                "prompts": None,
                "prompt_token_ids": [request.prompt_ids.tolist()],
                "sampling_params": asked,
                "session_ids": [request.request_id.partition("/")[0]],  # the rollout's
            }
        )
        logprobs = output["response_logprobs"]
        aborted = output["stop_reasons"][0] == "abort"
        return Sampled(output["response_ids"][0], logprobs and logprobs[0], self._step, aborted)

    def _output(self, group: TrainerGroup, ids: list[Any]) -> dict[str, Any]:
        output = generator_output([group], lambda _, member: ids[member], self._branches)
        present = {sample.member.index for sample in samples(group)}
        for member in range(group.k):
            if member not in present:
                _stand_in(output, group, ids[member])
        return output


def _stand_in(output: dict[str, Any], group: TrainerGroup, id: Any) -> None:
    """In place of a member that has no score stands another's row, masked, with the mean of the others' rewards: so it
    shifts no baseline, and trains nothing."""
    mean, response = float(group.rewards.mean()), output["response_ids"][0]
    reward = [0.0] * (len(response) - 1) + [mean] if isinstance(output["rewards"][0], list) else mean
    row = {name: column[0] for name, column in output.items() if isinstance(column, list)}
    own = {"rewards": reward, "loss_masks": [0] * len(response), "stop_reasons": "error", "trajectory_ids": id}
    for name, value in {**row, **own, **({"is_last_step": True} if "is_last_step" in row else {})}.items():
        output[name].append(value)


def _joined(outputs: list[dict[str, Any]]) -> GeneratorOutput:
    """One for all groups, with None for what SkyRL knows beside."""
    columns = {name: column for name, column in outputs[0].items() if isinstance(column, list)}
    joined = {name: [value for output in outputs for value in output[name]] for name in columns}
    return {**dict.fromkeys(GeneratorOutput.__annotations__), "rollout_metrics": {}, **joined}
