"""Pull adapters, each by its trainer's contract. What ran against the trainers' own classes: test_pull_real.py."""

import dataclasses
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from envhub.errors import UsageError
from envhub.trainers.pull import (
    agent_lightning,
    areal,
    async_grpo,
    nemo_rl,
    prime_rl,
    skyrl,
    slime,
    tinker,
    trl,
    verl,
)
from envhub.trainers.pull.samples import Rows, samples
from tests.trainers.delivered import allowed, delivered, replayed, routed

# The first member: two turns, of versions 5 and 6. The second: branches after its first turn. The third: one turn.
CHAIN = [1, 2, 3, 50, 51, 101, 102, 103, 150, 151]
OTHER_BRANCH = [1, 2, 3, 50, 51, 201, 202, 203, 250, 251]
LOGPROBS = [-0.5, -0.25, 0.0, 0.0, 0.0, -1.0, -0.5]  # of the chain's response
ADVANTAGES = [0.5, -0.5, -0.5, 0.0]


@dataclass(frozen=True)
class TrajectoryID:
    instance_id: str
    repetition_id: int


def test_all_rows_that_train_are_samples_and_frozen_ones_are_not():
    taken = samples(delivered())
    assert [sample.ids.tolist()[-1] for sample in taken] == [151, 151, 251, 51]
    assert [sample.advantage for sample in taken] == ADVANTAGES
    assert [sample.member.index for sample in taken] == [0, 1, 1, 3]
    assert [sample.versions for sample in taken] == [(5, 6), (5, 5), (5, 5), (5, 5)]
    assert sum(int(sample.trainable.sum()) for sample in taken) == 12


def test_one_row_a_member_is_the_one_that_trains_most():
    taken = samples(delivered(), Rows.ONE)
    assert [sample.member.index for sample in taken] == [0, 1, 3]
    assert taken[1].ids.tolist() == CHAIN  # 4 tokens train, in the other branch 2


def test_a_member_without_rows_still_counts_in_the_baseline():
    group = delivered()
    members = (dataclasses.replace(group.members[0], rows=()), *group.members[1:])
    assert [sample.advantage for sample in samples(dataclasses.replace(group, members=members))] == ADVANTAGES[1:]


def test_verl_gets_prompt_response_and_mask():
    first, second, third, fourth = verl.agent_loop_outputs(delivered())
    assert first == {
        "prompt_ids": CHAIN[:3],
        "response_ids": CHAIN[3:],
        "response_mask": [1, 1, 0, 0, 0, 1, 1],
        "response_logprobs": LOGPROBS,
        "reward_score": 1.0,
        "num_turns": 2,
        "metrics": {},
        "extra_fields": {"group_id": "run-0", "min_global_steps": 5, "max_global_steps": 6, "turn_scores": []},
    }
    assert third["response_mask"] == [0, 0, 0, 0, 0, 1, 1]  # the shared turn trains in the row before
    assert [row["reward_score"] for row in (second, third, fourth)] == [0.0, 0.0, 0.5]
    assert len(verl.agent_loop_outputs(delivered(), Rows.ONE)) == 3


def test_skyrl_gets_steps_of_a_trajectory_together_and_its_reward_at_the_end():
    output = skyrl.generator_output([delivered(0), delivered(1)], TrajectoryID)
    assert output["response_ids"][2] == OTHER_BRANCH[3:]
    assert output["is_last_step"] == [True, False, True, True] * 2
    assert output["rewards"][0] == [0.0] * 6 + [1.0]
    assert output["rewards"][3] == [0.0, 0.5]
    assert output["trajectory_ids"][1:3] == [TrajectoryID("run-0", 1)] * 2
    assert output["stop_reasons"] == ["stop", "stop", "stop", "length"] * 2
    for ids, masks, logprobs, rewards in zip(
        output["response_ids"], output["loss_masks"], output["rollout_logprobs"], output["rewards"], strict=True
    ):
        assert len(ids) == len(masks) == len(logprobs) == len(rewards)


def test_skyrl_gets_a_reward_once_however_many_rows_a_member_has():
    group = delivered()
    members = tuple(dataclasses.replace(member, reward=0.75) for member in group.members)
    output = skyrl.generator_output([dataclasses.replace(group, members=members)], TrajectoryID)
    assert [sum(rewards) for rewards in output["rewards"]] == [0.75, 0.0, 0.75, 0.75]


def test_skyrl_gets_a_scalar_for_each_trajectory_where_it_takes_one_row():
    output = skyrl.generator_output([delivered()], TrajectoryID, Rows.ONE)
    assert output["rewards"] == [1.0, 0.0, 0.5]
    assert output["is_last_step"] is None
    assert skyrl.generator_output([], TrajectoryID)["is_last_step"] == []


def test_slime_gets_whole_tokens_and_streams_of_the_response():
    first, second, third, fourth = slime.sample_records(delivered(2))
    assert first["tokens"] == CHAIN
    assert first["response_length"] == len(first["loss_mask"]) == len(first["rollout_log_probs"]) == 7
    assert first["rollout_log_probs"] == LOGPROBS
    assert first["weight_versions"] == ["5", "6"]
    assert [record["rollout_id"] for record in (first, second, third, fourth)] == [8, 9, 9, 11]
    assert len({record["index"] for record in (first, second, third, fourth)}) == 4
    assert (first["status"], fourth["status"]) == ("completed", "truncated")


def test_tinker_gets_streams_of_the_next_token():
    record = tinker.datums(delivered())[0]
    inputs = record["loss_fn_inputs"]
    assert record["tokens"] == CHAIN[:-1]
    assert inputs["target_tokens"].tolist() == CHAIN[1:]
    assert inputs["logprobs"].tolist() == [0.0, 0.0, *LOGPROBS]
    assert inputs["advantages"].tolist() == [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5]


def test_trl_gets_k_rows_and_none_for_a_member_that_is_missing():
    output = trl.rollout_output([delivered(0), delivered(1)])
    assert output["reward"] == [1.0, 0.0, 0.5, None] * 2
    assert output["prompt_ids"] == [[1, 2, 3]] * 8
    assert output["completion_ids"][0] == CHAIN[3:]
    assert output["logprobs"][0] == LOGPROBS
    assert output["env_mask"][0] == [1, 1, 0, 0, 0, 1, 1]
    assert output["env_mask"][3] == [0] * 7
    assert trl.delivered_reward([], [], **{"reward": output["reward"], "answer": "4"}) == output["reward"]


def test_trl_refuses_a_group_that_trains_nothing():
    frozen = dataclasses.replace(delivered(), members=())
    with pytest.raises(UsageError, match="nothing trains in group 'run-0'"):
        trl.rollout_output([frozen])


def test_async_grpo_gets_whole_rows_with_the_oldest_version():
    record = async_grpo.rollout_samples(delivered())[0]
    assert record["input_ids"].tolist() == CHAIN
    assert record["completion_mask"].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert record["old_log_probs"].tolist() == [0.0, 0.0, 0.0, *LOGPROBS]
    assert record["advantage"] == pytest.approx(1.0)  # 0.5 over a deviation of 0.5
    assert record["model_version"] == 5
    assert async_grpo.rollout_samples(delivered())[3]["metrics"] == {"reward": 0.5, "format": 1.0}


def test_prime_rl_gets_four_streams_of_one_length():
    record = prime_rl.training_samples(delivered())[0]
    assert record["token_ids"] == CHAIN
    assert record["mask"] == [False] * 3 + [True] * 2 + [False] * 3 + [True] * 2
    assert record["temperatures"] == [1.0] * 3 + [0.5] * 2 + [1.0] * 3 + [0.5] * 2
    assert record["advantages"] == [0.0] * 3 + [0.5] * 2 + [0.0] * 3 + [0.5] * 2
    assert record["logprobs"] == [0.0, 0.0, 0.0, *LOGPROBS]
    assert record["env_name"] == "fake/env-v0"


def test_areal_gets_arrays_of_one_row_with_versions():
    arrays = areal.trajectories(delivered())[0]
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "input_ids": ((1, 10), "int32"),
        "loss_mask": ((1, 10), "int32"),
        "logprobs": ((1, 10), "float32"),
        "versions": ((1, 10), "int32"),
        "attention_mask": ((1, 10), "bool"),
        "rewards": ((1,), "float32"),
    }
    assert arrays["versions"].tolist() == [[-1, -1, -1, 5, 5, -1, -1, -1, 6, 6]]


def test_nemo_rl_gets_a_message_a_span_and_logprobs_where_it_trains():
    datum = nemo_rl.datums(delivered())[2]
    log = datum["message_log"]
    assert np.concatenate([message["token_ids"] for message in log]).tolist() == OTHER_BRANCH
    assert [message["role"] for message in log] == ["user", "assistant", "user", "assistant"]
    assert ["generation_logprobs" in message for message in log] == [False, False, False, True]
    assert log[3]["generation_logprobs"].tolist() == [-1.5, -0.75]
    assert datum["length"] == 10
    assert datum["extra_env_info"] == {"reward": 0.0, "group_id": "run-0", "member": 1}


def test_agent_lightning_gets_each_trained_turn_once():
    first, second, third = agent_lightning.completed_rollouts(delivered())
    assert [turn["prompt"]["token_ids"] for turn in first["triplets"]] == [CHAIN[:3], CHAIN[:8]]
    assert [turn["response"]["token_ids"] for turn in second["triplets"]] == [[50, 51], [150, 151], [250, 251]]
    assert first["triplets"][1]["response"]["log_probs"] == [-1.0, -0.5]
    assert [record["final_reward"] for record in (first, second, third)] == [1.0, 0.0, 0.5]
    assert len({record["sample_idx_in_step"] for record in (first, second, third)}) == 3


def test_samples_know_what_turns_earned_and_what_the_engine_told():
    first, second = samples(replayed())
    assert first.turn_rewards.tolist() == [0.0] * 4 + [0.25] + [0.0] * 4 + [0.5]
    assert first.experts.tolist() == routed(CHAIN[:-1]).tolist()
    assert [first.sampling_mask.at(at).tolist() for at in range(10)] == [
        [], [], [], allowed(50), allowed(51), [], [], [], allowed(150), allowed(151)
    ]  # fmt: skip
    assert second.turn_rewards.tolist() == [0.0] * 4 + [0.5]


def test_files_that_were_not_fetched_are_left_out():
    for sample in samples(replayed(here=False)):
        assert sample.experts is sample.sampling_mask is None
    assert prime_rl.training_samples(replayed(here=False), replay=Replay()) == prime_rl.training_samples(replayed())
    assert "routed_experts" not in verl.agent_loop_outputs(replayed(here=False))[0]
    assert "rollout_routed_experts" not in slime.sample_records(replayed(here=False))[0]
    assert skyrl.generator_output([replayed(here=False)], TrajectoryID)["rollout_expert_indices"] is None


def test_experts_of_some_of_a_row_s_tokens_are_left_out():
    group = replayed()
    member = group.members[0]
    row = dataclasses.replace(member.rows[0].row, files=member.rows[0].row.files[:2])  # the second turn's are not known
    rows = (dataclasses.replace(member.rows[0], row=row),)
    group = dataclasses.replace(group, members=(dataclasses.replace(member, rows=rows), group.members[1]))
    assert [sample.experts is None for sample in samples(group)] == [True, False]
    assert skyrl.generator_output([group], TrajectoryID)["rollout_expert_indices"] is None


def test_verl_skyrl_and_slime_get_the_experts_of_all_tokens_that_were_read():
    expected = routed(CHAIN[:-1]).tolist()
    assert verl.agent_loop_outputs(replayed())[0]["routed_experts"].tolist() == expected
    assert slime.sample_records(replayed())[0]["rollout_routed_experts"].tolist() == expected
    output = skyrl.generator_output([replayed()], TrajectoryID)
    assert [experts.shape for experts in output["rollout_expert_indices"]] == [(9, 2, 2), (4, 2, 2)]
    assert output["rollout_expert_indices"][0].tolist() == expected


class Replay:
    """As prime-rl's module of types."""

    RoutedExperts = namedtuple("RoutedExperts", ("data", "shape", "dtype"))
    SamplingMask = namedtuple("SamplingMask", ("ids", "counts"))


def test_prime_rl_gets_experts_and_masks_as_its_own_records():
    record = prime_rl.training_samples(replayed(), replay=Replay())[0]
    experts, mask = record["routed_experts"], record["sampling_mask"]
    assert (experts.shape, experts.dtype) == ([10, 2, 2], "uint8")
    given = np.frombuffer(experts.data, np.uint8).reshape(10, 2, 2)
    assert given[:9].tolist() == routed(CHAIN[:-1]).tolist()
    assert not given[9].any()
    counts = np.frombuffer(mask.counts, np.int32)
    assert counts.tolist() == [0, 0, 0, *(len(allowed(id)) for id in (50, 51)), 0, 0, 0, *[len(allowed(150)), 2]]
    assert np.frombuffer(mask.ids, np.int32).tolist() == [kept for id in (50, 51, 150, 151) for kept in allowed(id)]
    assert prime_rl.training_samples(replayed())[0].keys().isdisjoint({"routed_experts", "sampling_mask"})


def test_verl_and_skyrl_get_what_turns_earned():
    assert verl.agent_loop_outputs(replayed())[0]["extra_fields"]["turn_scores"] == [0.25, 0.5]
    for rows in Rows:
        output = skyrl.generator_output([replayed()], TrajectoryID, rows, by_turn=True)
        assert output["rewards"] == [[0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.5 + 0.25], [0.0, 0.5]]  # the rest at the end
    assert skyrl.generator_output([replayed()], TrajectoryID, Rows.ONE)["rewards"] == [1.0, 0.5]


def test_skyrl_gets_what_no_turn_earned_once_at_the_end_of_a_member():
    output = skyrl.generator_output([delivered()], TrajectoryID, by_turn=True)
    assert output["rewards"] == skyrl.generator_output([delivered()], TrajectoryID)["rewards"]


def test_records_own_their_arrays():
    """The feed's are read-only views of its message, which torch warns of."""
    group = delivered()
    arrays = [
        *tinker.datums(group)[0]["loss_fn_inputs"].values(),
        *areal.trajectories(group)[0].values(),
        nemo_rl.datums(group)[0]["message_log"][1]["generation_logprobs"],
        async_grpo.rollout_samples(group)[0]["old_log_probs"],
    ]
    assert all(array.flags.writeable for array in arrays)
