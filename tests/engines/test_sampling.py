import numpy as np
import pytest

from envhub.contracts.turn import Sampling
from envhub.engines.in_process.sampling import Drawn, Sampler
from envhub.errors import EngineFault, UsageError

LOGITS = np.array([1.0, 0.0, -1.0, 2.0, -3.0], np.float32)  # probabilities at 1: 0.244 0.090 0.033 0.629 0.004


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_are_drawn_from_the_distribution_whose_logprobs_are_recorded(temperature: float) -> None:
    expected = np.exp(LOGITS / temperature) / np.exp(LOGITS / temperature).sum()
    sampler = Sampler(Sampling(temperature=temperature, seed=1))
    drawn = [sampler.sample(LOGITS) for _ in range(20_000)]
    shares = np.bincount([one.id for one in drawn], minlength=5) / len(drawn)
    assert np.allclose(shares, expected, atol=0.015)
    assert all(np.isclose(np.exp(one.logprob), expected[one.id], rtol=1e-6) for one in drawn[:100])
    assert all(one.allowed is None for one in drawn)


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (Sampling(top_k=2), [0, 3]),
        (Sampling(top_k=9), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0.62), [3]),
        (Sampling(top_p=0.65), [0, 3]),
        (Sampling(top_p=0.999), [0, 1, 2, 3, 4]),
        (Sampling(min_p=0.1), [0, 1, 3]),
        (Sampling(min_p=1.0), [3]),
        (Sampling(temperature=2.0, top_p=0.62), [0, 3]),  # the temperature comes first
        (Sampling(top_k=2, top_p=0.71), [3]),  # of two that are left, the likeliest has 0.72
        (Sampling(min_p=0.1, top_k=2, top_p=0.9), [0, 3]),
    ],
    ids=str,
)
def test_truncated_sampling_draws_from_what_it_says_it_left(sampling: Sampling, left: list[int]) -> None:
    odds = np.exp(LOGITS[left] / sampling.temperature)
    sampler = Sampler(sampling)
    drawn = [sampler.sample(LOGITS) for _ in range(5_000)]
    assert all(one.allowed is not None and one.allowed.tolist() == left for one in drawn)
    assert np.allclose(np.bincount([left.index(one.id) for one in drawn]) / len(drawn), odds / odds.sum(), atol=0.03)
    logprobs = dict(zip(left, np.log(odds / odds.sum()), strict=True))
    assert all(np.isclose(one.logprob, logprobs[one.id], atol=1e-6) for one in drawn[:100])


def test_of_ids_that_are_as_likely_top_k_leaves_so_many() -> None:
    drawn = Sampler(Sampling(top_k=3, seed=1)).sample(np.zeros(10, np.float32))
    assert drawn.allowed is not None
    assert drawn.allowed.tolist() == [0, 1, 2]


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}, {"min_p": -0.1}, {"min_p": 2.0}])
def test_a_truncation_outside_its_range_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"{name} is {wrong[name]}; it must"):
        Sampling(**wrong)  # type: ignore[arg-type]  # of whatever type


def test_greedy_takes_the_likeliest_id_with_certainty() -> None:
    sampling = Sampling(temperature=0.0, seed=1, top_p=0.5)
    assert not sampling.truncated
    assert Sampler(sampling).sample(np.array([0, 3, 1], np.float32)) == Drawn(1, 0.0)


def test_a_seed_fixes_the_ids() -> None:
    logits = np.zeros(1000, np.float32)
    first, second, other = (
        [sampler.sample(logits).id for _ in range(10)]
        for sampler in (Sampler(Sampling(seed=1)), Sampler(Sampling(seed=1)), Sampler(Sampling(seed=2)))
    )
    assert first == second != other


def test_impossible_ids_are_never_drawn_and_logprobs_stay_finite() -> None:
    logits = np.full(100, -np.inf, np.float32)
    logits[[3, 99]] = [5000.0, 4000.0]
    sampler = Sampler(Sampling(temperature=0.01, seed=1))
    assert {sampler.sample(logits) for _ in range(100)} == {Drawn(3, 0.0)}


def test_logits_that_are_no_numbers_are_a_fault() -> None:
    with pytest.raises(EngineFault, match="not numbers"):
        Sampler(Sampling(seed=1)).sample(np.array([0.0, np.nan], np.float32))
