"""The generator of SkyRL, over SkyRL's own batches and checks."""

import typing
from pathlib import Path
from types import SimpleNamespace

import pytest
import typing_extensions

from envhub.app import Settings
from envhub.errors import Fault, UsageError
from envhub.rollouts.job import Job
from tests.trainers.embedded.sampling_trainer import ARITHMETIC, Trainer
from tests.trainers.embedded.test_engine import SavedTokenizer

pytest.importorskip("pydantic", reason="SkyRL is not installed")
with pytest.MonkeyPatch.context() as patched:
    patched.setattr(typing, "TypedDict", typing_extensions.TypedDict)  # which it needs below Python 3.12
    pytest.importorskip("skyrl.train.generators.base", reason="SkyRL is not installed")

from skyrl.train.generators.base import GeneratorInterface
from skyrl.train.generators.utils import prepare_generator_input
from skyrl.train.utils.trainer_utils import validate_generator_output

from envhub.trainers.embedded.skyrl import EnvhubGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]


class Client:
    """An InferenceEngineInterface, as far as rollouts ask of it."""

    model_name = "bytes"

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    async def generate(self, input_batch, model=None):
        asked = input_batch["sampling_params"]
        (prompt,) = input_batch["prompt_token_ids"]
        sampled = await self.trainer.sample(prompt, asked["max_tokens"], asked["stop_token_ids"])
        return {
            "responses": [""],
            "response_ids": [sampled.ids],
            "response_logprobs": [sampled.logprobs],
            "stop_reasons": ["stop"],
        }


def generator(tmp_path: Path, trainer: Trainer, *, step_wise: bool = False) -> EnvhubGenerator:
    sampling = SimpleNamespace(max_generate_length=16, temperature=1.0)
    config = SimpleNamespace(sampling_params=sampling, max_input_length=256, step_wise_trajectories=step_wise)
    settings = Settings(str(tmp_path / "run.db"), sandbox="process")
    return EnvhubGenerator(config, Client(trainer), SavedTokenizer(), Job((ARITHMETIC,)), settings)


def batch(k: int, *, top_p: float = 1.0):
    prompts = [
        {
            "prompt": [{"role": "user", "content": f"What is {task_id}?"}],
            "env_class": "envhub",
            "env_extras": {"environment": ARITHMETIC, "task_id": task_id},
            "uid": str(number),
        }
        for number, task_id in enumerate(("1+1", "4+5"))
    ]
    asked = {"temperature": 1.0, "top_p": top_p, "max_tokens": 16}
    batch, _ = prepare_generator_input(prompts, k, asked, "envhub", "train", global_step=3)
    return batch


@pytest.mark.parametrize("step_wise", [False, True])
async def test_a_batch_passes_skyrl_s_own_checks(tmp_path: Path, step_wise: bool):
    made = generator(tmp_path, Trainer(), step_wise=step_wise)
    assert isinstance(made, GeneratorInterface)
    asked = batch(8)
    output = await made.generate(asked)
    made.close()
    validate_generator_output(16, output, step_wise=step_wise)
    assert output["trajectory_ids"] == asked["trajectory_ids"]
    rewards = [reward[-1] if step_wise else reward for reward in output["rewards"]]
    answers = [bytes(response[:-1]).decode() for response in output["response_ids"]]
    assert rewards == [float(answer == right) for answer, right in zip(answers, ["2"] * 8 + ["9"] * 8, strict=True)]
    assert set(rewards) == {0.0, 1.0}


@pytest.mark.parametrize("step_wise", [False, True])
async def test_a_member_that_failed_trains_nothing_and_shifts_no_baseline(tmp_path: Path, step_wise: bool):
    answers = iter(range(100))

    def sometimes(asked):
        if next(answers) == 0:
            raise ValueError("no answer today")
        return "2"

    made = generator(tmp_path, Trainer(sometimes), step_wise=step_wise)
    output = await made.generate(batch(4))
    made.close()
    validate_generator_output(8, output, step_wise=step_wise)
    masked = [row for row, mask in enumerate(output["loss_masks"]) if not any(mask)]
    (row,) = masked
    group = [reward[-1] if step_wise else reward for reward in output["rewards"][:4]]
    assert output["stop_reasons"][row] == "error"
    assert row == 3
    assert group == [1.0] * 4  # its reward is the mean of the others
    assert sorted(id.repetition_id for id in output["trajectory_ids"][:4]) == [0, 1, 2, 3]


async def test_a_group_without_any_score_is_an_error(tmp_path: Path):
    def fails(asked):
        raise ValueError("no answer today")

    made = generator(tmp_path, Trainer(fails))
    with pytest.raises(Fault, match="no answer today"):
        await made.generate(batch(1))
    made.close()


async def test_sampling_that_has_no_exact_log_probabilities_is_refused(tmp_path: Path):
    made = generator(tmp_path, Trainer())
    with pytest.raises(UsageError, match=r"top_p is 0\.9"):
        await made.generate(batch(1, top_p=0.9))
    made.close()
