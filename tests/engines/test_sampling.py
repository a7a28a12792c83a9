import numpy as np
import pytest

from envhub.contracts.turn import Sampling
from envhub.engines.in_process.sampling import Sampler
from envhub.errors import EngineFault


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_are_drawn_from_the_distribution_whose_logprobs_are_recorded(temperature: float) -> None:
    logits = np.array([1.0, 0.0, -1.0, 2.0, -3.0], np.float32)
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    sampler = Sampler(Sampling(temperature=temperature, seed=1))
    drawn = [sampler.sample(logits) for _ in range(20_000)]
    shares = np.bincount([index for index, _ in drawn], minlength=5) / len(drawn)
    assert np.allclose(shares, expected, atol=0.015)
    assert all(np.isclose(np.exp(logprob), expected[index], rtol=1e-6) for index, logprob in drawn[:100])


def test_greedy_takes_the_likeliest_id_with_certainty() -> None:
    assert Sampler(Sampling(temperature=0.0, seed=1)).sample(np.array([0, 3, 1], np.float32)) == (1, 0.0)


def test_a_seed_fixes_the_ids() -> None:
    logits = np.zeros(1000, np.float32)
    first, second, other = (
        [sampler.sample(logits)[0] for _ in range(10)]
        for sampler in (Sampler(Sampling(seed=1)), Sampler(Sampling(seed=1)), Sampler(Sampling(seed=2)))
    )
    assert first == second != other


def test_impossible_ids_are_never_drawn_and_logprobs_stay_finite() -> None:
    logits = np.full(100, -np.inf, np.float32)
    logits[[3, 99]] = [5000.0, 4000.0]
    sampler = Sampler(Sampling(temperature=0.01, seed=1))
    assert {sampler.sample(logits) for _ in range(100)} == {(3, 0.0)}


def test_logits_that_are_no_numbers_are_a_fault() -> None:
    with pytest.raises(EngineFault, match="not numbers"):
        Sampler(Sampling(seed=1)).sample(np.array([0.0, np.nan], np.float32))
