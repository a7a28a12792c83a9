"""TRL: the `rollout_func` of a GRPOTrainer, whose rollouts sample from a copy of the weights that it trains.

The copy is a transformers engine of this process: its log probabilities are those of the tokens as they were sampled,
which TRL's own generation does not keep. It takes the trainer's weights before a batch, where these have changed.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from types import TracebackType
from typing import Any, Self

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel

from envhub.app.settings import Settings
from envhub.contracts.ids import PolicyVersion, derive_seed
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.turn import Sampling
from envhub.engines.in_process.torch_check import check_model
from envhub.engines.transformers import TransformersEngine
from envhub.errors import UsageError
from envhub.rollouts.job import Job
from envhub.trainers.embedded.engine import trainer_model
from envhub.trainers.embedded.run import EmbeddedRun, scored
from envhub.trainers.embedded.sampling import check_plain
from envhub.trainers.embedded.tasks import ENVIRONMENT, TASK_ID, TaskRows
from envhub.trainers.pull.trl import delivered_reward, rollout_output

__all__ = ["RolloutFunction", "delivered_reward"]

PENALTIES = ("top_p", "top_k", "min_p", "repetition_penalty")  # attributes of the trainer


class RolloutFunction:
    """For `rollout_func`, with `delivered_reward` for `reward_funcs` and `dataset()` for `train_dataset`. Close it, or
    use it as a context manager: the engine and the run begin with the first batch.

    Raises:
        UsageError: the job names an environment that does not exist.
    """

    def __init__(self, job: Job, settings: Settings = Settings()) -> None:
        self._job = job
        self._settings = settings
        self._rows = TaskRows(job)
        self._run: _LiveRun | None = None

    def dataset(self) -> Dataset:
        """The tasks of the job's environments. TRL hands a `rollout_func` the prompts alone, so their messages name the
        task."""
        rows = self._rows.rows()
        names = [{ENVIRONMENT: row[ENVIRONMENT], TASK_ID: row[TASK_ID]} for row in rows]
        prompts = [[message | name for message in row["prompt"]] for row, name in zip(rows, names, strict=True)]
        return Dataset.from_dict({"prompt": prompts})

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[object]]:
        """
        Raises:
            UsageError: the trainer samples otherwise than from the model's whole distribution, or a prompt names no
                task.
            Fault: nothing of a group can be trained on.
        """
        run = self._run or self._begin(trainer, len(prompts))
        run.follow(trainer)
        return rollout_output([scored(played) for played in run.rollouts.play(self._requests(prompts, trainer))])

    def close(self) -> None:
        """Ends the run. Idempotent."""
        if self._run:
            self._run.close()
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, trainer: Any, rollouts: int) -> "_LiveRun":
        _check(trainer)
        rank = trainer.accelerator.process_index
        settings = replace(self._settings, seed=derive_seed(self._settings.seed, rank)) if rank else self._settings
        self._run = _LiveRun(trainer, rollouts, self._job, settings)
        return self._run

    def _requests(self, prompts: Sequence[Any], trainer: Any) -> Iterator[GroupRequest]:
        """A prompt comes as many times in a row as it has rollouts here."""
        most = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        sampling = Sampling(temperature=trainer.temperature, max_tokens=trainer.max_completion_length)
        for row, same in groupby(map(_row, prompts)):
            count = len(list(same))
            for start in range(0, count, most):
                yield self._rows.request(row, min(most, count - start), sampling)


class _LiveRun:
    """The engine over a copy of the trainer's weights, and the run that samples from it."""

    def __init__(self, trainer: Any, rollouts: int, job: Job, settings: Settings) -> None:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        self._engine = TransformersEngine(copied(trained, trainer.args), max_batch=rollouts)
        self._version = PolicyVersion(-1)
        model = trainer_model(self._engine, trainer.processing_class, trained.config.name_or_path or "model")
        self.rollouts = EmbeddedRun(model, job, settings)

    def follow(self, trainer: Any) -> None:
        """Takes the weights that the trainer has now; their version is its global step."""
        version = PolicyVersion(trainer.state.global_step)
        if version == self._version:
            return
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        self.rollouts.call(self._engine.load_weights, weights, version)
        self.rollouts.announce(version)
        self._version = version

    def close(self) -> None:
        self.rollouts.call(self._engine.close)
        self.rollouts.close()


def copied(model: Any, args: Any) -> Any:
    """A model of the same weights, in what the trainer computes in, that the engine can run.

    Raises:
        UsageError: it can't; or the model is none of transformers, or some of its weights are elsewhere.
    """
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"the trainer's model is a {type(model).__name__}; this adapter samples from a model of transformers whose "
            "own weights are trained: leave out peft_config, or train from the feed (docs/trainers.md)"
        )
    dtype = torch.bfloat16 if args.bf16 else model.dtype
    copy = AutoModelForCausalLM.from_config(deepcopy(model.config), dtype=dtype).to(model.device).eval()
    copy.load_state_dict(model.state_dict())
    check_model(copy)
    return copy


def _check(trainer: Any) -> None:
    check_plain({name: getattr(trainer, name) for name in PENALTIES})
    if trainer.use_vllm:
        raise UsageError(
            "use_vllm is set, but this adapter samples with an engine of this process; leave it out, or have vLLM "
            "serve envhub and train from the feed (docs/trainers.md)"
        )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise UsageError(
            "the trainer splits its weights over processes, and this adapter needs all of them in each; train from "
            "the feed (docs/trainers.md)"
        )


def _row(prompt: Any) -> dict[str, Any]:
    first = prompt[0] if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) else {}
    return {name: first.get(name) for name in (ENVIRONMENT, TASK_ID)}
