"""The generate function of slime, called by slime's own generate_and_rm_group, over HTTP."""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from envhub.errors import UsageError, bare_usage_errors
from envhub.http_server import listen, serve
from envhub.trainers.embedded.engine import Sampled
from tests.trainers.embedded.sampling_trainer import ARITHMETIC, CONTEXT, Trainer

sglang_rollout = pytest.importorskip("slime.rollout.sglang_rollout", reason="slime is not installed")

from slime.rollout.filter_hub.base_types import call_dynamic_filter  # noqa: E402
from slime.utils import http_utils  # noqa: E402
from slime.utils.types import Sample  # noqa: E402

from envhub.trainers.embedded import slime  # noqa: E402

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]


@asynccontextmanager
async def sglang(trainer: Trainer) -> AsyncIterator[int]:
    """A server with SGLang's /generate; its port."""
    with bare_usage_errors(), listen("127.0.0.1", 0) as listener:
        async with serve(app_of(trainer), listener):
            yield int(listener.url.rpartition(":")[2])


def app_of(trainer: Trainer) -> FastAPI:
    app = FastAPI()

    @app.post("/generate")
    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["sampling_params"]
        sampled = await trainer.sample(body["input_ids"], asked["max_new_tokens"], asked["stop_token_ids"])
        scores = [[logprob, id, None] for id, logprob in zip(sampled.ids, sampled.logprobs, strict=True)]
        finish = {"type": "abort" if sampled.aborted else "stop"}
        return {
            "text": "",
            "meta_info": {"finish_reason": finish, "weight_version": "6", "output_token_logprobs": scores},
        }

    return app


@pytest.fixture
def arguments(hf_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """What slime's own parser makes, of the arguments that a rollout reads."""
    monkeypatch.setattr(http_utils, "_http_client", None)
    sglang_rollout.GenerateState.clear_instances()  # one a process: a test has its own
    return Namespace(
        hf_checkpoint=str(hf_directory),
        sglang_server_concurrency=8,
        rollout_num_engines=1,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=16,
        rollout_max_context_len=CONTEXT,
        rollout_stop=None,
        rollout_stop_token_ids=None,
        rollout_skip_special_tokens=False,
        sglang_dp_size=1,
        sglang_router_ip="127.0.0.1",
        partial_rollout=False,
        mask_offpolicy_in_partial_rollout=False,
        custom_generate_function_path="envhub.trainers.embedded.slime.generate",
        group_rm=False,
        reward_key=None,
        custom_rm_path=None,
        use_distributed_post=False,
        envhub={
            "job": {"environments": [ARITHMETIC]},
            "settings": {"database": str(tmp_path / "run.db"), "sandbox": "process"},
        },
    )


async def group_of(args: Namespace, trainer: Trainer, size: int = 8) -> list[Any]:
    metadata = {"environment": ARITHMETIC, "task_id": "1+1"}
    samples = [Sample(group_index=2, index=16 + member, metadata=dict(metadata)) for member in range(size)]
    async with sglang(trainer) as port:
        args.sglang_router_port = port
        http_utils.init_http_client(args)
        state = sglang_rollout.GenerateState(args)
        async with http_utils._http_client:
            return await sglang_rollout.generate_and_rm_group(args, samples, state.sampling_params.copy())


async def test_samples_come_back_with_rollouts_that_slime_can_train_on(arguments: Namespace):
    samples = await group_of(arguments, Trainer())
    assert [sample.index for sample in samples] == list(range(16, 24))
    for sample in samples:
        sample._validate_response_metadata_lengths()
        assert sample.status is Sample.Status.COMPLETED
        assert sample.reward == float(sample.response == "2<|im_end|>")
        assert sample.tokens[-sample.response_length :][-1] == 257
        assert sample.loss_mask == [1] * sample.response_length
        assert all(logprob < 0 for logprob in sample.rollout_log_probs)
        assert sample.weight_versions == ["6"]
        assert Sample.from_dict(sample.to_dict()).tokens == sample.tokens
    assert {sample.reward for sample in samples} == {0.0, 1.0}
    assert call_dynamic_filter(slime.whole, arguments, samples).keep


async def test_a_rollout_that_slime_aborts_has_no_reward_and_its_group_is_dropped(arguments: Namespace):
    class Aborting(Trainer):
        async def __call__(self, request):
            return Sampled([], [], aborted=True)

    samples = await group_of(arguments, Aborting(), size=1)
    assert [(sample.status, sample.reward) for sample in samples] == [(Sample.Status.ABORTED, None)]
    assert not call_dynamic_filter(slime.whole, arguments, samples).keep


async def test_with_all_rows_the_branches_of_a_rollout_share_its_id(arguments: Namespace):
    arguments.envhub["rows"] = "all"
    (branches, *_) = await group_of(arguments, Trainer(), size=2)
    assert [sample.rollout_id for sample in branches] == [16]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"envhub": None}, "no 'envhub' with a job"),
        ({"rollout_max_context_len": None}, "--rollout-max-context-len is not set"),
        ({"partial_rollout": True}, "--partial-rollout is set"),
        ({"rollout_top_p": 0.9}, r"top_p is 0\.9"),
    ],
)
async def test_arguments_that_cannot_work_are_refused(arguments: Namespace, wrong: dict[str, Any], told: str):
    for name, value in wrong.items():
        setattr(arguments, name, value)
    with pytest.raises(UsageError, match=told):
        await group_of(arguments, Trainer(), size=1)
