"""What the way from a delivered group to a trainer's records and tensors costs: 8 rows of 8,192 tokens.

The floor copies the same arrays once. Where a trainer takes lists the floor is numpy's own `tolist` of them, which no
adapter can go below.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.feed_parts.measure import Figure, at_most, best_ms
from envhub.feed.codec import TrainerGroup
from envhub.trainers.batch import TokenBatch
from envhub.trainers.grpo import GrpoSettings
from envhub.trainers.layout import padded, shifted
from envhub.trainers.objective import K25Settings, k25_objective
from envhub.trainers.pull.agent_lightning import completed_rollouts
from envhub.trainers.pull.areal import trajectories
from envhub.trainers.pull.async_grpo import rollout_samples
from envhub.trainers.pull.nemo_rl import datums as messages
from envhub.trainers.pull.prime_rl import training_samples
from envhub.trainers.pull.skyrl import generator_output
from envhub.trainers.pull.slime import sample_records
from envhub.trainers.pull.tinker import datums
from envhub.trainers.pull.trl import rollout_output
from envhub.trainers.pull.verl import agent_loop_outputs

MOST_MS = 5.0

OF_LISTS: dict[str, Callable[[TrainerGroup], object]] = {
    "verl": agent_loop_outputs,
    "skyrl": lambda group: generator_output([group], lambda instance, repetition: (instance, repetition)),
    "slime": sample_records,
    "trl": lambda group: rollout_output([group]),
    "prime_rl": training_samples,
    "tinker": datums,
    "agent_lightning": completed_rollouts,
}
OF_ARRAYS: dict[str, Callable[[TrainerGroup], object]] = {
    "areal": trajectories,
    "nemo_rl": messages,
    "async_grpo": rollout_samples,
}


def adapters(group: TrainerGroup, rounds: int) -> list[Figure]:
    """Each adapter, over the one floor that is of its kind."""
    rows = [row.row for member in group.members for row in member.rows]
    streams = [(row.ids, row.logprobs, row.mask(trainable=True)) for row in rows]
    lists = best_ms(lambda: [[stream.tolist() for stream in row] for row in streams], rounds)
    arrays = best_ms(lambda: [[stream.copy() for stream in row] for row in streams], rounds)
    return [
        at_most(f"adapter_{name}", best_ms(lambda adapt=adapt: adapt(group), rounds), "ms", MOST_MS, floor)
        for floor, of_kind in ((lists, OF_LISTS), (arrays, OF_ARRAYS))
        for name, adapt in of_kind.items()
    ]


def objective(group: TrainerGroup, rounds: int) -> list[Figure]:
    """From the group to a batch, a layout, and the reference objective."""
    batch = TokenBatch.of([group])
    k25 = K25Settings(-0.7, 0.7, 1e-3)
    new_logprobs = batch.logprobs + 0.01
    rows = [row.row for member in group.members for row in member.rows]
    floor = best_ms(lambda: [(row.ids.astype(np.int64), row.logprobs.astype(np.float64)) for row in rows], rounds)
    calls: dict[str, Callable[[], object]] = {
        "token_batch": lambda: TokenBatch.of([group]),
        "padded_and_shifted": lambda: shifted(batch, padded(batch)),
        "k25_objective": lambda: k25_objective(batch, new_logprobs, k25),
    }
    return [at_most(name, best_ms(call, rounds), "ms", MOST_MS, floor) for name, call in calls.items()]


def tensors(group: TrainerGroup, rounds: int) -> list[Figure]:
    """From the group to torch tensors of our own collation."""
    import torch

    from envhub.trainers.torch_objective import collate

    torch.set_num_threads(1)
    settings = GrpoSettings()

    def to_tensors() -> object:
        batch = TokenBatch.of([group])
        return collate(batch, shifted(batch, padded(batch)), settings)

    rows = [row.row for member in group.members for row in member.rows]
    floor = best_ms(lambda: [(torch.tensor(row.ids), torch.tensor(row.logprobs)) for row in rows], rounds)
    return [at_most("collated_tensors", best_ms(to_tensors, rounds), "ms", MOST_MS, floor)]
