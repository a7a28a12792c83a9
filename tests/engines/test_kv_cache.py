from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.turn import Ids
from envhub.engines.in_process import llama
from envhub.engines.in_process.attention import bundles
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import Floats, read_weights
from envhub.engines.in_process.kv_cache import KVCache, nbytes
from envhub.engines.in_process.llama import Llama
from envhub.engines.in_process.prefix_cache import PrefixCache
from envhub.engines.in_process.products import Products
from envhub.tokens.gguf_tokenizer import open_gguf

IDS = np.random.default_rng(0).integers(3, 250, 60).astype(np.int32)


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Llama:
    return Llama(read_weights(open_gguf(tiny_gguf)), Products(1))


def filled(model: Llama, ids: Ids) -> KVCache:
    cache = KVCache(model.weights.shape, 1)
    model.hidden([Segment(cache, ids)])
    return cache


def last(model: Llama, cache: KVCache, ids: Ids = IDS) -> Floats:
    """Of `ids`, of which the cache holds a beginning."""
    hidden = model.hidden([Segment(cache, ids[cache.length :])])
    assert (cache.ids == ids).all()
    return hidden[-1]


@pytest.mark.parametrize("length", [10, 40, 59])
def test_a_fork_continues_as_the_whole_sequence_would(model: Llama, length: int) -> None:
    expected = last(model, KVCache(model.weights.shape, 60))
    cache = filled(model, IDS[:59])
    for forked in (cache.fork(length, 0), cache.fork(length, 0).fork(9, 0), cache):
        assert np.allclose(last(model, forked), expected, atol=1e-4)


def test_forks_of_a_prompt_share_its_memory_and_are_attended_together(model: Llama) -> None:
    cache = filled(model, IDS)
    forks = [cache.fork(59, 4) for _ in range(3)]
    assert cache.trunk is not None
    assert all(fork.trunk is cache.trunk for fork in forks)
    (bundle,) = bundles([Segment(each, IDS[:1]) for each in (cache, *forks)])
    assert bundle.trunk is cache.trunk


def test_a_fork_that_shares_little_leaves_the_sequence_as_it_is(model: Llama) -> None:
    cache = filled(model, IDS)
    assert cache.fork(5, 0).trunk is None
    assert cache.trunk is None


def test_a_trunk_grows_by_a_tail_that_is_longer(model: Llama) -> None:
    expected = last(model, KVCache(model.weights.shape, 60))
    cache = filled(model, IDS[:20]).fork(20, 0)
    model.hidden([Segment(cache, IDS[20:59])])
    short, whole = cache.fork(25, 0), cache.fork(58, 0)
    assert [fork.trunk and fork.trunk.length for fork in (short, whole)] == [20, 58]
    for fork in (short, whole, cache):
        assert np.allclose(last(model, fork), expected, atol=1e-4)


def test_what_a_sequence_samples_is_never_seen_by_its_forks(model: Llama) -> None:
    cache = filled(model, IDS[:40])
    fork = cache.fork(39, 30)
    model.hidden([Segment(cache, IDS[::-1][:15]), Segment(fork, IDS[39:50])])
    expected = last(model, KVCache(model.weights.shape, 60))
    assert np.allclose(last(model, fork), expected, atol=1e-4)


def test_a_trunk_counts_once_however_many_share_it(model: Llama) -> None:
    cache = filled(model, IDS)
    forks = [cache.fork(59, 1) for _ in range(10)]
    assert cache.trunk is not None
    assert nbytes(forks) == cache.trunk.nbytes + 10 * forks[0].nbytes


def test_ended_sequences_are_dropped_oldest_first_once_they_take_too_much(
    model: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama, "PREFIX_BYTES", 2 * KVCache(model.weights.shape, 60).nbytes)
    prompts = [np.roll(IDS, seed) for seed in range(3)]
    prefixes = PrefixCache(model)
    for prompt in prompts:
        cache = KVCache(model.weights.shape, 60)
        model.hidden([Segment(cache, prompt)])
        prefixes.keep(cache)
    assert [prefixes.longest(prompt, []).shared for prompt in prompts] == [0, 59, 59]
