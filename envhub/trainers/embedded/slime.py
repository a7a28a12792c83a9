"""slime: `--custom-generate-function-path envhub.trainers.embedded.slime.generate`, over slime's own SGLang servers.

In the file of `--custom-config-path`, where `job` and `settings` have the fields of Job and Settings:

    envhub:
      job: {environments: [envhub/arithmetic-v0]}
      settings: {database: rollouts.db}

A sample's metadata names its task by `environment` and `task_id`. With
`--dynamic-sampling-filter-path envhub.trainers.embedded.slime.whole` a group with a failed rollout is not trained on.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from slime.rollout.sglang_rollout import GenerateState
from slime.utils.http_utils import post

from envhub.app.settings import Settings
from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.rollouts.job import Job
from envhub.trainers.embedded.configuration import configured, kept_by
from envhub.trainers.embedded.engine import Sampled, TrainerEngine, trainer_model
from envhub.trainers.embedded.run import EmbeddedRun
from envhub.trainers.embedded.sampling import PLAIN, check_plain
from envhub.trainers.embedded.tasks import TaskRows
from envhub.trainers.pull.samples import Rows
from envhub.trainers.pull.slime import sample_records

FROM_RECORD = ("tokens", "response_length", "loss_mask", "rollout_log_probs", "weight_versions")


@dataclass(frozen=True, slots=True)
class _Worker:
    """What all rollouts of one process of slime share."""

    engine: TrainerEngine
    run: EmbeddedRun
    rows: TaskRows
    branches: Rows


async def generate(args: Any, sample: Any, sampling_params: Mapping[str, Any], evaluation: bool = False) -> Any:
    """The sample with its rollout; or, where `envhub` has `rows: all`, one a branch, with one rollout_id. A rollout
    without a valid score is aborted: it has no reward.

    Raises:
        UsageError: `envhub` is missing or can't work, or the sample names no task.
    """
    state = GenerateState(args)
    worker = kept_by(state, _configuration(args), lambda: _open(args, state.tokenizer))
    check_plain(sampling_params)
    worker.engine.sample_with(lambda request: _sampled(args, request))
    sampling = Sampling(temperature=sampling_params["temperature"], max_tokens=sampling_params["max_new_tokens"])
    request = worker.rows.request(sample.metadata, 1, sampling, draw=str(sample.group_index))
    (played,) = await worker.run.played([request])
    records = sample_records(played.group, worker.branches)
    if not records:
        sample.status, sample.remove_sample = sample.Status.ABORTED, True
        return sample
    filled = [_filled(args, copy(sample), record, state.tokenizer) for record in records]
    return filled if worker.branches is Rows.ALL else filled[0]


def whole(args: Any, samples: list[Any], **_: Any) -> bool:
    """For `--dynamic-sampling-filter-path`: every rollout of the group has a reward."""
    rollouts = (rollout if isinstance(rollout, list) else [rollout] for rollout in samples)
    return all(sample.reward is not None for rollout in rollouts for sample in rollout)


def _configuration(args: Any) -> Mapping[str, Any]:
    told = getattr(args, "envhub", None)
    if not isinstance(told, Mapping) or "job" not in told:
        raise UsageError(
            "the arguments have no 'envhub' with a job; write it into the file of --custom-config-path, like "
            "envhub: {job: {environments: [envhub/arithmetic-v0]}}"
        )
    return told


def _open(args: Any, tokenizer: Any) -> _Worker:
    if args.rollout_max_context_len is None:
        raise UsageError(
            "--rollout-max-context-len is not set; envhub ends a rollout where its context is full: set it"
        )
    if args.partial_rollout:
        raise UsageError("--partial-rollout is set, but an aborted rollout of envhub begins anew; leave it out")
    told = _configuration(args)
    job, settings = configured(Job, told["job"]), configured(Settings, told.get("settings", {}))
    engine = TrainerEngine(args.rollout_max_context_len)
    run = EmbeddedRun(trainer_model(engine, tokenizer, str(args.hf_checkpoint)), job, settings)
    return _Worker(engine, run, TaskRows(job), Rows(told.get("rows", Rows.ONE)))


async def _sampled(args: Any, request: EngineRequest) -> Sampled:
    sampling = request.sampling
    asked = {
        **PLAIN,
        "temperature": sampling.temperature,
        "max_new_tokens": sampling.max_tokens,
        "stop_token_ids": sorted(request.stop_ids),
        "skip_special_tokens": False,
        "no_stop_trim": True,
    }
    body = {"input_ids": request.prompt_ids.tolist(), "sampling_params": asked, "return_logprob": True}
    rollout = request.request_id.partition("/")[0]  # its turns stay with one server
    url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}/generate"
    output = await post(url, body, headers={"X-SMG-Routing-Key": rollout})
    meta = output["meta_info"]
    scores = meta.get("output_token_logprobs") or []
    aborted = meta["finish_reason"]["type"] == "abort"
    return Sampled([score[1] for score in scores], [score[0] for score in scores], _version(meta), aborted)


def _version(meta: Mapping[str, Any]) -> PolicyVersion:
    """slime numbers its weights; SGLang calls those that it started with by a word."""
    told = str(meta.get("weight_version", ""))
    return PolicyVersion(int(told) if told.isdecimal() else 0)


def _filled(args: Any, sample: Any, record: Mapping[str, Any], tokenizer: Any) -> Any:
    for name in FROM_RECORD:
        setattr(sample, name, record[name])
    prompt_length = len(sample.tokens) - sample.response_length
    sample.response = tokenizer.decode(sample.tokens[prompt_length:])
    sample.status = sample.Status(record["status"])
    sample.reward = {args.reward_key: record["reward"]} if args.reward_key else record["reward"]
    sample.rollout_id = sample.index
    sample.metadata = {**sample.metadata, "envhub": record["metadata"]}
    return sample
