"""The agent loop of verl, run by verl's own AgentLoopWorker."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.embedded.sampling_trainer import ARITHMETIC, Trainer

agent_loop = pytest.importorskip("verl.experimental.agent_loop.agent_loop", reason="verl is not installed")

import torch  # noqa: E402
import verl  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from verl.protocol import DataProto  # noqa: E402
from verl.workers.rollout.llm_server import LLMServerClient  # noqa: E402
from verl.workers.rollout.replica import TokenOutput  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # verl's own, as it is used

PROMPT_LENGTH, RESPONSE_LENGTH = 128, 16
LOOP = """
- name: envhub
  _target_: envhub.trainers.embedded.verl.EnvhubAgentLoop
  job: {{environments: [{environment}]}}
  settings: {{database: {database}, sandbox: process}}
"""


class Servers(LLMServerClient):
    """verl's client of its servers, answered by a script at step 5."""

    def __init__(self, config):
        super().__init__(config)
        self.trainer = Trainer()
        self.asked = []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **others):
        self.asked.append((request_id, sampling_params))
        stop_ids = sampling_params["stop_token_ids"]
        sampled = await self.trainer.sample(prompt_ids, sampling_params["max_tokens"], stop_ids)
        return TokenOutput(token_ids=sampled.ids, log_probs=sampled.logprobs, extra_fields={"global_steps": 5})


def config(hf_directory: Path, tmp_path: Path, **rollout: object):
    loops = tmp_path / "loops.yaml"
    loops.write_text(LOOP.format(environment=ARITHMETIC, database=tmp_path / "run.db"))
    told = {
        "name": "vllm",
        "prompt_length": PROMPT_LENGTH,
        "response_length": RESPONSE_LENGTH,
        "calculate_log_probs": True,
        "agent.agent_loop_config_path": loops,
        **rollout,
    }
    overrides = [f"actor_rollout_ref.rollout.{name}={value}" for name, value in told.items()]
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides=[f"actor_rollout_ref.model.path={hf_directory}", *overrides])


def batch(size: int, **columns: object) -> DataProto:
    row = {
        "agent_name": "envhub",
        "environment": ARITHMETIC,
        "task_id": "1+1",
        "uid": "a",
        "raw_prompt": [{"role": "user", "content": "What is 1 + 1?"}],
        **columns,
    }
    values = {name: np.empty(size, dtype=object) for name in row}
    for name, column in values.items():
        column[:] = [row[name]] * size
    return DataProto.from_dict(tensors={"dummy": torch.zeros(size, 1)}, non_tensors=values)


@pytest.fixture
def servers(hf_directory: Path, tmp_path: Path) -> Servers:
    return Servers(config(hf_directory, tmp_path))


def test_verl_s_worker_gets_padded_rows_with_masks_log_probabilities_and_rewards(servers):
    worker = agent_loop.AgentLoopWorker(servers.config, servers)
    rows = asyncio.run(worker.generate_sequences(batch(8)))
    assert rows.batch["prompts"].shape == (8, PROMPT_LENGTH)
    assert rows.batch["responses"].shape == (8, RESPONSE_LENGTH)
    rewards = rows.batch["rm_scores"].sum(dim=1).tolist()
    for row, reward in enumerate(rewards):
        mask = rows.batch["response_mask"][row].bool()
        answer = bytes(rows.batch["responses"][row][mask].tolist()[:-1]).decode()  # its last token ends the message
        assert (answer == "2") is (reward == 1.0)
        assert (rows.batch["rollout_log_probs"][row][mask] < 0).all()
        assert (rows.batch["rollout_log_probs"][row][~mask] == 0).all()
    assert set(rewards) == {0.0, 1.0}
    assert rows.non_tensor_batch["max_global_steps"].tolist() == [5] * 8


def test_the_rollouts_of_a_worker_share_one_run_and_each_keeps_its_server(servers, tmp_path):
    worker = agent_loop.AgentLoopWorker(servers.config, servers)
    asyncio.run(worker.generate_sequences(batch(4)))
    sessions = [request_id for request_id, _ in servers.asked]
    assert len(set(sessions)) == 4
    assert len({session.rsplit("-", 3)[0] for session in sessions}) == 1  # the run's id
    for _, asked in servers.asked:
        assert (asked["top_p"], asked["top_k"], asked["logprobs"]) == (1.0, -1, True)


def test_a_rollout_that_failed_is_an_error_and_not_a_reward(servers):
    def fails(asked):
        raise ValueError("no answer today")

    servers.trainer = Trainer(fails)
    worker = agent_loop.AgentLoopWorker(servers.config, servers)
    with pytest.raises(Exception, match="no answer today"):
        asyncio.run(worker.generate_sequences(batch(1)))


@pytest.mark.parametrize(
    ("prompt_length", "told"),
    [(70, "a prompt of envhub has 77 tokens, and rollout.prompt_length is 70"), (8, "truncated by context")],
)
def test_a_prompt_that_verl_has_no_room_for_is_refused(hf_directory, tmp_path, prompt_length, told):
    servers = Servers(config(hf_directory, tmp_path, prompt_length=prompt_length))
    with pytest.raises(Exception, match=told):
        asyncio.run(agent_loop.AgentLoopWorker(servers.config, servers).generate_sequences(batch(1)))


def test_sampling_that_has_no_exact_log_probabilities_is_refused(hf_directory, tmp_path):
    servers = Servers(config(hf_directory, tmp_path, top_p=0.9))
    with pytest.raises(Exception, match=r"top_p is 0\.9"):
        asyncio.run(agent_loop.AgentLoopWorker(servers.config, servers).generate_sequences(batch(1)))
