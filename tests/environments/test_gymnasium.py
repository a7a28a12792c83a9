import copy
import gc
import pickle
import re
import subprocess
import sys
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.contracts.task import Task
from envhub.environments import GymnasiumEnvironment, gymnasium_plugin
from envhub.environments.standalone import StandaloneContext
from envhub.environments.to_gymnasium import EnvhubGymEnv
from envhub.environments.unicode_space import UnicodeSpace

ARITHMETIC = "envhub/arithmetic-v0"
TASK = Task.ask("Go.")
CONTEXT = StandaloneContext(RolloutRequest(EnvironmentRef(EnvironmentId("test/it-v0")), TASK))


def answer_to(observation: str) -> str:
    *_, a, b = re.findall(r"\d+", observation)
    return str(int(a) + int(b))


@pytest.mark.parametrize("id", ["envhub/arithmetic-v0", "envhub/calculator-v0", "envhub/delegate-v0"])
def test_made_environment_passes_gymnasiums_checker(id: str):
    env = gymnasium.make(id)
    check_env(env.unwrapped)
    env.close()


def test_episode_is_rewarded_by_its_judge():
    env = gymnasium.make(ARITHMETIC)
    observation, info = env.reset(seed=3)
    assert observation.startswith("user: What is 2 + 3?\n\nassistant: 2 + 3 = 5\n\nuser: What is ")
    assert info["task_id"] == env.reset(seed=3)[1]["task_id"]
    assert env.step(answer_to(observation)) == ("", 1.0, True, False, {})
    env.reset()
    assert env.step("no idea")[1] == 0.0
    env.close()


def test_seeds_reach_every_task():
    env = EnvhubGymEnv(ARITHMETIC)
    assert len({env.reset(seed=seed)[1]["task_id"] for seed in range(300)}) > 80
    env.close()


def test_step_needs_a_running_episode():
    env = EnvhubGymEnv(ARITHMETIC)
    with pytest.raises(ResetNeeded):
        env.step("1")
    env.reset()
    env.step("1")
    with pytest.raises(ResetNeeded):
        env.step("1")
    env.close()


def test_tool_calls_are_read_from_the_text():
    env = EnvhubGymEnv("envhub/delegate-v0", render_mode="ansi")
    env.reset(seed=0)
    observation, reward, terminated, *_ = env.step(
        '<tool_call>\n{"name": "delegate", "arguments": {"sums": ["x"]}}\n</tool_call>'
    )
    assert observation == "tool: delegate: ValueError: sum 'x' must read 'a + b' with two digits, like '3 + 4'"
    assert (reward, terminated) == (0.0, False)
    assert env.render().endswith(observation)
    assert '<tool_call>\n{"name": "delegate", "arguments": {"sums": ["x"]}}\n</tool_call>' in env.render()
    env.close()


def portals() -> set[threading.Thread]:
    """The threads of environments that are open."""
    return {thread for thread in threading.enumerate() if "portal" in thread.name}


def test_close_is_idempotent_and_ends_the_thread():
    before = portals()
    env = EnvhubGymEnv(ARITHMETIC)
    env.close()
    env.reset()
    assert len(portals() - before) == 1
    env.close()
    env.close()
    assert portals() <= before


def test_forgotten_environment_ends_its_thread():
    before = portals()
    env = EnvhubGymEnv(ARITHMETIC)
    env.reset()
    del env
    gc.collect()
    assert portals() <= before


def test_environment_that_is_never_closed_lets_the_process_end():
    program = "from envhub.environments.to_gymnasium import EnvhubGymEnv as E; e = E('envhub/arithmetic-v0'); e.reset()"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_copies_are_environments_of_their_own():
    env = EnvhubGymEnv(ARITHMETIC)
    env.reset(seed=1)
    for other in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        assert other.reset(seed=5) == EnvhubGymEnv(ARITHMETIC).reset(seed=5)
        other.close()
    env.close()


def test_vectors_of_environments_work():
    envs = gymnasium.make_vec(ARITHMETIC, num_envs=2, vectorization_mode="sync")
    observations, _ = envs.reset(seed=1)
    _, rewards, terminated, *_ = envs.step(tuple(map(answer_to, observations)))
    assert rewards.tolist() == [1.0, 1.0]
    assert terminated.all()
    envs.close()


def test_registering_again_adds_what_is_new(register):
    spec = register(lambda: None)
    gymnasium_plugin.register()
    gymnasium_plugin.register()
    assert gymnasium.registry.pop(spec.id).kwargs == {"environment_id": spec.id}


class TestUnicodeSpace:
    def test_samples_are_in_it_and_follow_the_seed(self):
        space = UnicodeSpace(seed=1)
        samples = [space.sample() for _ in range(200)]
        assert all(sample in space for sample in samples)
        assert samples == [UnicodeSpace(seed=1).sample(), *samples[1:]]
        assert max(map(len, samples)) == 32
        assert any(ord(max(sample, default="a")) > 0xFFFF for sample in samples)

    @pytest.mark.parametrize("x", ["", "héllo ∞", "\U0010ffff", "a\x00b", "x" * 10**6])
    def test_text_is_in_it(self, x: str):
        assert x in UnicodeSpace()

    @pytest.mark.parametrize("x", [None, 1, b"x", ["x"], np.zeros(2), "\ud800"])
    def test_what_is_no_text_is_not(self, x: object):
        assert x not in UnicodeSpace()

    def test_spaces_are_equal_and_pickle(self):
        assert pickle.loads(pickle.dumps(UnicodeSpace())) == UnicodeSpace()
        assert repr(UnicodeSpace()) == "UnicodeSpace()"


MOVES = {"left": 0, "down": 1, "right": 2, "up": 3}


def lake() -> GymnasiumEnvironment[int, int]:
    def read(text: str) -> int:
        if text == "jump":
            return 9
        if text not in MOVES:
            raise ValueError("Say left, down, right or up")
        return MOVES[text]

    def make() -> gymnasium.Env[int, int]:
        return gymnasium.make("FrozenLake-v1", is_slippery=False)

    return GymnasiumEnvironment(make, render=lambda cell: f"cell {cell}", parse=read)


async def step(environment: Environment, text: str) -> StepResult:
    return await environment.step(Action(Message.assistant(text)))


@pytest.mark.anyio
async def test_gymnasium_environment_is_played_in_words():
    environment = lake()
    observation = await environment.reset(TASK, seed=2**62, ctx=CONTEXT)
    assert observation.messages == (Message.user("Go.\n\ncell 0"),)
    results = [await step(environment, move) for move in ["down", "down", "right", "right", "down", "right"]]
    assert results[0].observation.messages == (Message.user("cell 4"),)
    assert [result.reward for result in results] == [0, 0, 0, 0, 0, 1]
    assert [result.terminated for result in results] == [False] * 5 + [True]
    assert environment.judge is None
    await environment.close()
    await environment.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "answer"),
    [("fly", "Say left, down, right or up; nothing was done."), ("jump", "9 is not in Discrete(4); nothing was done.")],
)
async def test_action_that_cannot_be_read_is_told_and_not_taken(said: str, answer: str):
    environment = lake()
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    result = await step(environment, said)
    assert result.observation.messages == (Message.user(answer),)
    assert not result.terminated
    assert (await step(environment, "down")).observation.messages == (Message.user("cell 4"),)
    await environment.close()


@pytest.mark.anyio
async def test_truncation_of_gymnasium_passes():
    def make() -> gymnasium.Env[int, int]:
        return gymnasium.make("FrozenLake-v1", is_slippery=False, max_episode_steps=1)

    environment = GymnasiumEnvironment(make, render=str, parse=MOVES.__getitem__)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    assert (await step(environment, "left")).truncated
    await environment.close()


@pytest.mark.anyio
async def test_first_observation_follows_a_prompt_that_ends_with_another_role():
    task = Task(TASK.id, (Message.user("Go."), Message.assistant("Yes.")))
    environment = lake()
    observation = await environment.reset(task, seed=0, ctx=CONTEXT)
    assert observation == Observation((*task.prompt, Message.user("cell 0")), observation.info)
    await environment.close()
