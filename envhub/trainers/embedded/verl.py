"""verl: an agent loop whose rollouts sample with verl's own servers.

In the file of `rollout.agent.agent_loop_config_path`, where `job` and `settings` have the fields of Job and Settings:

    - name: envhub
      _target_: envhub.trainers.embedded.verl.EnvhubAgentLoop
      job: {environments: [envhub/arithmetic-v0]}
      settings: {database: rollouts.db}

Rows of the data set name their task in the columns `environment` and `task_id`, and the loop in `agent_name`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

from envhub.app.settings import Settings
from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.rollouts.job import Job
from envhub.trainers.embedded.configuration import configured, kept_by
from envhub.trainers.embedded.engine import Sampled, TrainerEngine, trainer_model
from envhub.trainers.embedded.run import EmbeddedRun, scored
from envhub.trainers.embedded.sampling import PLAIN, check_plain
from envhub.trainers.embedded.tasks import TaskRows
from envhub.trainers.pull.samples import Rows
from envhub.trainers.pull.verl import agent_loop_outputs

BY_RESPONSE = ("response_ids", "response_mask", "response_logprobs")
SHARED_FIELDS: Mapping[str, Any] = {"turn_scores": [], "tool_rewards": [], "reward_extra_info": {}}  # that verl joins


@dataclass(frozen=True, slots=True)
class _Worker:
    """What all loops of one worker of verl share."""

    engine: TrainerEngine
    run: EmbeddedRun
    rows: TaskRows


class EnvhubAgentLoop(AgentLoopBase):
    """One rollout a call, an output of `rows` one; with `rows` all, which verl's V1 trainer takes, an output a branch.

    Raises:
        UsageError: the job or the settings can't be had, or verl is to write prompts in a way that envhub does not.
    """

    def __init__(self, *args: Any, job: Any, settings: Any = None, rows: str = Rows.ONE, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.apply_chat_template_kwargs:
            raise UsageError(
                f"data.apply_chat_template_kwargs is {dict(self.apply_chat_template_kwargs)}; envhub writes prompts by "
                "the chat template alone: leave it out, or set custom_chat_template"
            )
        self._branches = Rows(rows)
        asked = configured(Job, _plain(job)), configured(Settings, _plain(settings or {}))
        self._worker = kept_by(self.server_manager, asked, lambda: self._open(*asked))

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput | list[AgentLoopOutput]:
        """
        Raises:
            UsageError: a row that names no task, sampling that has no exact log probabilities, or a prompt that is
                longer than verl lets it be.
            Fault: the rollout failed, and verl must not take that for a reward.
        """
        check_plain(sampling_params)
        worker = self._worker
        worker.engine.sample_with(self._sampled)
        sampling = Sampling(temperature=sampling_params["temperature"], max_tokens=self.rollout_config.response_length)
        request = worker.rows.request(row, 1, sampling, draw=str(row.get("uid", "")))
        (played,) = await worker.run.played([request])
        outputs = [self._output(record) for record in agent_loop_outputs(scored(played), self._branches)]
        return outputs if self._branches is Rows.ALL else outputs[0]

    def _open(self, job: Job, settings: Settings) -> _Worker:
        engine = TrainerEngine(self.rollout_config.prompt_length + self.rollout_config.response_length)
        name = str(self.config.actor_rollout_ref.model.path)
        return _Worker(engine, EmbeddedRun(trainer_model(engine, self.tokenizer, name), job, settings), TaskRows(job))

    async def _sampled(self, request: EngineRequest) -> Sampled:
        sampling = request.sampling
        asked = {
            **PLAIN,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": sorted(request.stop_ids),
            "logprobs": True,
        }
        output = await self.server_manager.generate(
            request_id=request.request_id.partition("/")[0],  # the rollout's: its turns stay with one server
            prompt_ids=request.prompt_ids.tolist(),
            sampling_params=asked,
        )
        version = PolicyVersion(output.extra_fields.get("global_steps") or 0)
        return Sampled(output.token_ids, output.log_probs, version, aborted=output.stop_reason == "aborted")

    def _output(self, record: dict[str, Any]) -> AgentLoopOutput:
        """What verl pads to its lengths: a response that is longer than that is cut, as verl's own loops cut it."""
        most = self.rollout_config.prompt_length
        if len(record["prompt_ids"]) > most:
            raise UsageError(
                f"a prompt of envhub has {len(record['prompt_ids'])} tokens, and rollout.prompt_length is {most}; "
                "raise it"
            )
        cut = {name: record[name][: self.rollout_config.response_length] for name in BY_RESPONSE}
        return AgentLoopOutput(**{**record, **cut, "extra_fields": {**SHARED_FIELDS, **record["extra_fields"]}})


def _plain(told: Any) -> Any:
    """Without what Hydra makes of a mapping."""
    return OmegaConf.to_container(told, resolve=True) if OmegaConf.is_config(told) else told
