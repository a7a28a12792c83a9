"""docs/examples/train_loop.py over a tiny model of random weights: what it learns, and what a kill costs."""

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from envhub.app import stored_members
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.contracts.score import JudgeInput
from envhub.contracts.task import Task
from envhub.environments.arithmetic import one_digit_sums
from envhub.environments.single_turn import SingleTurn
from envhub.registry import environment, environments
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE
from tests.engines.conftest import write_tiny
from tests.engines.hf_directory import write_hf_directory

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("transformers", reason="the extra `torch` is not installed")

LOOP = Path(__file__).parents[2] / "docs" / "examples" / "train_loop.py"
PROMPTS, K = 2, 3
PATIENCE_S = 100.0  # for torch to be imported on a busy machine, above all

# Runs the loop, and kills it as it calls a method of the feed's client for the n-th time, or after that.
KILLED = """
import os, runpy, signal, sys
from envhub.feed.client import FeedClient

when, method, left, sys.argv = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
original = getattr(FeedClient, method)

def killing(self, *args):
    global left
    left -= 1
    if left or when == "after":
        answer = original(self, *args)
    if left:
        return answer
    os.kill(os.getpid(), signal.SIGKILL)

setattr(FeedClient, method, killing)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KILLS = {  # and how many steps the log has then; a checkpoint every 3
    ("before", "begin_update", 2): 1,  # before the first checkpoint
    ("before", "ack_trained", 1): 3,  # between a checkpoint and its acks
    ("after", "ack_trained", 1): 6,  # as soon as they are durable
    ("before", "begin_update", 3): 7,  # two steps later: the first update brings in the checkpoint's weights
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_tiny(folder / "tiny.gguf")
    write_hf_directory(folder / "tiny.gguf", folder / "tiny")
    settings = folder / "tiny" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": CHATML_TEMPLATE}))
    return folder / "tiny"


@pytest.fixture
def loop(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Runs it in this process."""
    monkeypatch.setattr(environments, "_known", dict(environments._known))

    def run(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(LOOP), *arguments(tmp_path, weights), *options])
        runpy.run_path(str(LOOP), run_name="__main__")

    yield run


def arguments(folder: Path, weights: Path) -> list[str]:
    fixed = {"weights": weights, "device": "cpu", "prompts": PROMPTS, "k": K, "max-tokens": 8}
    return [str(folder), *(part for name, value in fixed.items() for part in (f"--{name}", str(value)))]


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def share_of_letter(input: JudgeInput) -> float:
    """What the tiny model can learn: to write one letter."""
    return input.response.count("e") / 8


def test_rewards_rise_over_a_few_steps(loop: Callable[..., None], tmp_path: Path):
    environment("test/letters-v0", tasks=one_digit_sums)(lambda: SingleTurn(share_of_letter))
    loop("--environment", "test/letters-v0", "--steps", "25", "--lr", "0.02", "--save-every", "25")
    steps = steps_of(tmp_path)
    rewards = [step["reward"] for step in steps]
    assert sum(rewards[-5:]) > 3 * sum(rewards[:5]) + 0.5
    assert [step["version"] for step in steps] == list(range(1, 26))
    assert steps[0]["k3"] < 1e-6  # the engine's log probabilities are the trainer's own
    assert max(step["age"] for step in steps) <= 1
    assert any(step["mixed"] for step in steps)  # updates in the middle of turns


@pytest.mark.timeout((len(KILLS) + 1) * PATIENCE_S)
def test_killed_at_any_moment_it_trains_on_every_group_once(weights: Path, tmp_path: Path):
    steps = 9
    command = [str(LOOP), *arguments(tmp_path, weights), "--steps", str(steps), "--save-every", "3"]
    for (when, method, call), logged in KILLS.items():
        killed = subprocess.run([sys.executable, "-c", KILLED, when, method, str(call), *command], timeout=PATIENCE_S)
        assert killed.returncode == -signal.SIGKILL
        assert len(steps_of(tmp_path)) == logged
    subprocess.run([sys.executable, *command], check=True, timeout=PATIENCE_S)

    log = steps_of(tmp_path)
    assert [step["step"] for step in log] == list(range(1, steps + 1))
    assert sorted(group for step in log for group in step["groups"]) == list(range(steps * PROMPTS))
    versions = [step["version"] for step in log]
    assert versions == sorted(set(versions))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == steps
    assert saved["cursor"] == {"train-loop": [[0, steps * PROMPTS - 1]]}
    members = anyio.run(stored_members, str(tmp_path / "run.db"), RunId("train-loop"))
    assert members.of(MemberState.ACKED) == members.submitted == steps * PROMPTS * K


@pytest.mark.timeout(2 * PATIENCE_S)
def test_what_is_sampled_after_a_kill_is_as_new_as_before_it(loop: Callable[..., None], weights: Path, tmp_path: Path):
    options = ("--steps", "10", "--save-every", "10")
    command = ["before", "begin_update", "5", str(LOOP), *arguments(tmp_path, weights), *options]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    loop(*options)
    log = steps_of(tmp_path)
    assert len(log) == 10
    assert max(step["age"] for step in log[:6]) >= 5  # of the process that was killed
    assert max(step["age"] for step in log[6:]) <= 1


def test_groups_without_a_token_that_trains_are_passed_over(
    loop: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    longer = [Task.ask("x" * 10_000, 0, id=f"{number}") for number in range(2 * PROMPTS)]  # than the model's context
    environment("test/long-v0", tasks=lambda: longer)(lambda: SingleTurn(share_of_letter))
    loop("--environment", "test/long-v0", "--steps", "2")
    assert capsys.readouterr().out.count("none of their tokens trains") == 2
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["step"], saved["cursor"]) == (0, {"train-loop": [[0, 2 * PROMPTS - 1]]})


def test_a_group_without_a_score_ends_it_and_another_makes_up_for_it(loop: Callable[..., None], tmp_path: Path):
    broken = True

    def judge(input: JudgeInput) -> float:
        if broken and input.response != str(input.task.answer):  # of the right answer it is asked before the start
            raise RuntimeError("the judge is broken")
        return 1.0

    environment("test/broken-v0", tasks=one_digit_sums)(lambda: SingleTurn(judge))
    with pytest.raises(SystemExit, match=r"gave nothing to train on: .*the judge is broken"):
        loop("--environment", "test/broken-v0", "--steps", "2")
    broken = False
    environments._known.pop("demo/plain-sums-v0")
    loop("--environment", "test/broken-v0", "--steps", "2")
    assert len(steps_of(tmp_path)) == 2


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--device", "cuda:7", "device is 'cuda:7'; torch finds cpu"),
        ("--environment", "demo/absent-v0", "no environment 'demo/absent-v0'"),
    ],
)
def test_what_can_not_work_is_told_before_anything_starts(
    loop: Callable[..., None], tmp_path: Path, option: str, value: str, why: str
):
    with pytest.raises(SystemExit, match=f"error: {why}"):
        loop(option, value)
    assert not (tmp_path / "run.db").exists()
