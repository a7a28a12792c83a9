"""The torch objectives against the float64 reference: values, and gradients by its finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.token_file import SamplingMask
from envhub.errors import UsageError
from envhub.trainers.batch import TokenBatch
from envhub.trainers.corrections import icepop, token_tis
from envhub.trainers.grpo import GrpoSettings, grpo_objective
from envhub.trainers.layout import packed, padded, shifted, take
from envhub.trainers.objective import K25Settings, k25_objective
from tests.trainers.batches import batch_of
from tests.trainers.delivered import delivered

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from envhub.trainers.torch_objective import collate, grpo_loss, k25_loss, token_logprobs  # noqa: E402

K25 = K25Settings(-0.7, 0.7, 0.1)
OBJECTIVES = {
    "eq. 1": (k25_objective, k25_loss, K25),
    "eq. 1 by tokens, tau inside only": (k25_objective, k25_loss, K25Settings(-0.4, 0.9, 0.2, False, "batch")),
    "eq. 1 without tau": (k25_objective, k25_loss, K25Settings(-0.7, 0.7, 0.0)),
    "grpo": (grpo_objective, grpo_loss, GrpoSettings()),
    "dr. grpo, clipped higher": (grpo_objective, grpo_loss, GrpoSettings(0.2, 0.28, length=12)),
}
CORRECTIONS = {"none": lambda batch, own: None, "tis": token_tis, "icepop": icepop}


@st.composite
def cases(draw):
    """Rows with prompts, and new logprobs whose ratios keep away from all bounds."""
    lengths = draw(st.lists(st.integers(2, 5), min_size=1, max_size=5))
    rows, tokens = len(lengths), sum(lengths)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    firsts = np.cumsum([0, *lengths[:-1]])
    trainable = rng.random(tokens) < 0.8
    trainable[firsts], trainable[1] = False, True
    groups = rng.integers(0, 3, rows)
    batch = batch_of(lengths, rng.normal(size=rows), groups, -3.0 * rng.random(tokens), trainable)
    new = batch.logprobs + rng.choice([-1.5, -0.6, -0.3, -0.05, 0.0, 0.06, 0.3, 0.6, 1.2], tokens)
    own = batch.logprobs + rng.normal(size=tokens)
    return batch, new, own


@pytest.mark.parametrize("correct", CORRECTIONS.values(), ids=CORRECTIONS)
@pytest.mark.parametrize("layout", [padded, packed])
@pytest.mark.parametrize(("reference", "loss_of", "how"), OBJECTIVES.values(), ids=OBJECTIVES)
@settings(deadline=None, max_examples=15)
@given(cases())
def test_loss_and_gradient_are_those_of_the_reference(reference, loss_of, how, layout, correct, case):
    batch, new, own = case
    correction = correct(batch, own)
    places = shifted(batch, layout(batch))
    tokens = collate(batch, places, how, correction=correction, dtype=torch.float64)
    at = torch.from_numpy(np.ascontiguousarray(take(new, places[1], np.nan))).requires_grad_()
    loss = loss_of(at, tokens, how)
    loss.backward()
    assert loss.item() == pytest.approx(reference(batch, new, how, correction).loss, abs=1e-12)

    step = 1e-6
    for token in np.flatnonzero(batch.trainable):
        bump = step * (np.arange(len(new)) == token)
        above, below = (reference(batch, new + side * bump, how, correction).loss for side in (1, -1))
        ours = at.grad.numpy()[places[1] == token]
        np.testing.assert_allclose(ours, [(above - below) / (2 * step)], atol=1e-8)
    assert not at.grad.numpy()[~tokens.trainable.numpy()].any()


def test_losses_of_parts_add_up_to_the_loss_of_the_batch():
    batch = TokenBatch.of([delivered(0), delivered(1)])
    places = padded(batch)
    parts = [collate(batch, shifted(batch, places[rows]), K25) for rows in (slice(0, 3), slice(3, 10))]
    losses = [k25_loss(part.logprobs + 0.3, part, K25).item() for part in parts]
    whole = collate(batch, shifted(batch, places), K25)
    assert sum(losses) == pytest.approx(k25_loss(whole.logprobs + 0.3, whole, K25).item(), abs=1e-6)
    assert all(losses)


def test_logprobs_are_those_at_the_temperature_that_each_token_was_sampled_at():
    batch = batch_of([3], [1.0], trainable=[0, 1, 1], ids=np.array([0, 1, 2]), temperatures=np.array([0.0, 0.5, 2.0]))
    tokens = collate(batch, shifted(batch, padded(batch)), K25)
    logits = torch.tensor([[[0.1, 0.7, -0.3], [0.4, 0.0, 1.1]]], dtype=torch.bfloat16)
    expected = [
        torch.log_softmax(logits[0, place].float() / temperature, -1)[id].item()
        for place, (temperature, id) in enumerate([(0.5, 1), (2.0, 2)])
    ]
    given = token_logprobs(logits, tokens)
    assert given.dtype == torch.float32
    assert given[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layout", [padded, packed])
def test_logprobs_are_those_among_the_ids_that_a_token_was_drawn_from(layout):
    drawn_from = [[], [1, 3], [0, 2, 4], [], [], [2]]  # the fifth from all there are
    ids = np.array([0, 1, 2, 0, 3, 2])
    trains = [0, 1, 1, 0, 1, 1]
    batch = batch_of(
        [3, 3],
        [1.0, -1.0],
        trainable=trains,
        ids=ids,
        temperatures=np.array([0.0, 0.5, 1.0, 0.0, 1.0, 2.0]),
        sampling_mask=SamplingMask.of(drawn_from),
    )
    places = shifted(batch, layout(batch))
    tokens = collate(batch, places, K25)
    logits = (80.0 * torch.randn((*places[1].shape, 5), generator=torch.Generator().manual_seed(0))).requires_grad_()
    given = token_logprobs(logits, tokens)
    for place, token in np.ndenumerate(places[1]):
        if token >= 0 and trains[token]:
            scaled = logits[place].double() / batch.temperatures[token]
            among = scaled[drawn_from[token] or slice(None)]
            expected = scaled[ids[token]] - among.logsumexp(0)
            assert given[place].item() == pytest.approx(expected.item(), abs=1e-3)
    k25_loss(given, tokens, K25).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[places[1] == 5].any()  # drawn from one id alone: certain, whatever the logits are
    for place, token in np.ndenumerate(places[1]):
        if token >= 0 and drawn_from[token]:
            left_out = sorted(set(range(5)) - set(drawn_from[token]))
            assert not logits.grad[place][left_out].any()


def test_a_model_trained_on_the_loss_comes_to_say_what_was_worth_more():
    batch = batch_of(
        [2, 2], [0.5, -0.5], trainable=[0, 1, 0, 1], ids=np.array([0, 1, 0, 2]), logprobs=[np.log(0.25)] * 4
    )
    tokens = collate(batch, shifted(batch, padded(batch)), K25)
    logits = torch.zeros(4, 4, requires_grad=True)  # of the next token, by the one before
    for _ in range(20):
        loss = k25_loss(token_logprobs(logits[tokens.inputs], tokens), tokens, K25)
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 0.5 * gradient
    after = torch.softmax(logits[0], -1)
    assert after[1] > 0.3 > 0.25 > after[2]
    assert (logits[1:] == 0).all()


def test_padding_is_marked_and_has_no_weight():
    batch = batch_of([2, 3], [1.0, -1.0], trainable=[0, 1, 0, 1, 1])
    tokens = collate(batch, shifted(batch, padded(batch)), K25, padding_id=9)
    assert tokens.inputs.tolist() == [[100, 101], [102, 103]]
    assert tokens.targets.tolist() == [[101, 9], [103, 104]]
    assert tokens.present.tolist() == [[True, True], [True, True]]
    assert tokens.weights.tolist() == pytest.approx(np.array([[1, 0], [1, 1]]) / 3)
    shorter = collate(batch, shifted(batch, np.array([[0, 1, -1, -1]])), K25, padding_id=9)
    assert shorter.inputs.tolist() == [[100, 101, 9]]
    assert shorter.present.tolist() == [[True, True, False]]


def test_greedy_tokens_are_refused():
    batch = batch_of([2], [1.0], trainable=[0, 1], temperatures=np.zeros(2))
    with pytest.raises(UsageError, match="sampled at temperature 0"):
        collate(batch, shifted(batch, padded(batch)), K25)
