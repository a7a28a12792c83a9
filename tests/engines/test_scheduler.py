from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.engine import EngineRequest
from envhub.contracts.turn import Finish, Ids, Sampling
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import read_weights
from envhub.engines.in_process.kv_cache import KVCache
from envhub.engines.in_process.llama import Llama
from envhub.engines.in_process.products import Products
from envhub.engines.in_process.sampling import Drawn
from envhub.engines.in_process.scheduler import Generation, Scheduler, Token
from envhub.errors import EngineFault
from envhub.tokens.gguf_tokenizer import open_gguf


class CountingLlama(Llama):
    """Notes how many tokens each segment of each step had."""

    steps: list[list[int]]

    def step(self, segments: Sequence[Segment[KVCache]]) -> list[Drawn]:
        self.steps.append([len(segment.ids) for segment in segments])
        return super().step(segments)


@pytest.fixture
def model(tiny_gguf: Path) -> CountingLlama:
    model = CountingLlama(read_weights(open_gguf(tiny_gguf)), Products(1))
    model.steps = []
    return model


def ids(count: int, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(3, 250, count).astype(np.int32)


def add(scheduler: Scheduler, prompt: Ids, max_tokens: int = 2, seed: int = 0) -> tuple[Generation, list[Token]]:
    output: list[Token] = []
    sampling = Sampling(max_tokens=max_tokens, seed=seed)
    generation = Generation(EngineRequest("r", prompt, sampling, frozenset()), output.append)
    scheduler.add(generation)
    return generation, output


def run(scheduler: Scheduler) -> None:
    while not scheduler.idle:
        scheduler.step()


def test_a_long_prompt_enters_in_pieces_while_the_others_decode(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=4)
    _, short = add(scheduler, ids(5), max_tokens=9)
    scheduler.step()
    add(scheduler, ids(Llama.prefill_tokens + 40, seed=1))
    for tokens in (2, 3):
        scheduler.step()
        assert len(short) == tokens
    assert model.steps == [[5], [1, Llama.prefill_tokens], [1, 40]]


def test_short_prompts_share_a_step(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=4)
    for seed in range(4):
        add(scheduler, ids(50, seed))
    scheduler.step()
    assert model.steps == [[50, 50, Llama.prefill_tokens - 100]]


def test_the_members_of_a_group_compute_their_prompt_once(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=4)
    outputs = [add(scheduler, ids(60), seed=seed)[1] for seed in range(4)]
    run(scheduler)
    assert model.steps[:2] == [[60], [1, 1, 1, 1]]
    assert all(output[-1].finish is Finish.LENGTH for output in outputs)


def test_a_later_turn_computes_only_what_is_new(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=4)
    _, output = add(scheduler, ids(60), max_tokens=10)
    run(scheduler)
    model.steps.clear()
    add(scheduler, np.concatenate([ids(60), np.array([token.id for token in output], np.int32), ids(7, seed=1)]))
    run(scheduler)
    assert model.steps[0] == [8]  # the newest token of the first turn was never fed


def test_no_more_than_max_batch_run_and_the_others_follow_in_order(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=2)
    outputs = [add(scheduler, ids(5, seed), max_tokens=3)[1] for seed in range(5)]
    ended: list[int] = []
    while not scheduler.idle:
        scheduler.step()
        ended += [index for index, output in enumerate(outputs) if len(output) == 3 and index not in ended]
    assert ended == [0, 1, 2, 3, 4]
    assert max(map(len, model.steps)) == 2


def test_a_cancelled_generation_leaves_before_the_next_step(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=1)
    running, output = add(scheduler, ids(5), max_tokens=100)
    waiting, never = add(scheduler, ids(5, seed=1))
    _, last = add(scheduler, ids(5, seed=2))
    scheduler.step()
    running.cancelled = waiting.cancelled = True
    run(scheduler)
    assert (len(output), len(never), len(last)) == (1, 0, 2)


def test_failing_ends_running_and_waiting_generations(model: CountingLlama) -> None:
    scheduler = Scheduler(model, max_batch=1)
    outputs = [add(scheduler, ids(5, seed))[1] for seed in range(2)]
    scheduler.step()
    scheduler.fail("by design")
    assert scheduler.idle
    assert all(isinstance(output[-1], EngineFault) for output in outputs)
