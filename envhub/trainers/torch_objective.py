"""The objectives in torch, with autograd: for a trainer that has no loss of its own. Needs the extra `torch`.

A batch is laid out once (envhub.trainers.layout) and collated whole or by some of its rows: weights are those of the
whole batch, so losses of parts add up to its loss, and gradients may be accumulated part by part.

    places = padded(batch)
    for rows in (slice(0, 4), slice(4, 8)):
        tokens = collate(batch, shifted(batch, places[rows]), settings)
        logits = model(tokens.inputs, attention_mask=tokens.present, position_ids=tokens.positions).logits
        k25_loss(token_logprobs(logits, tokens), tokens, settings).backward()
"""

from dataclasses import dataclass
from math import log1p

import numpy as np
import torch
from torch import Tensor

from envhub.contracts.token_file import SamplingMask
from envhub.errors import UsageError
from envhub.trainers.batch import Floats, Ints, TokenBatch
from envhub.trainers.grpo import GrpoSettings
from envhub.trainers.layout import PADDING, positions, take
from envhub.trainers.objective import K25Settings, scaled_advantages


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Tensors of one shape: what a model reads at a place, and of the token that it has to say next, what counts."""

    inputs: Tensor  # int64
    positions: Tensor  # int64: from 0 in each row
    present: Tensor  # bool: a token, not padding
    targets: Tensor  # int64
    trainable: Tensor  # bool, of the targets like all below
    logprobs: Tensor  # nats, as recorded
    temperatures: Tensor  # 1 where the target was not sampled
    advantages: Tensor  # corrected, and 0 where the target does not train
    weights: Tensor  # of the whole batch's objective; 0 where the target does not train
    allowed: Tensor | None = None  # int64 [2, N]: places, counted through, and an id each that theirs was drawn from


def collate(
    batch: TokenBatch,
    places: tuple[Ints, Ints],
    settings: K25Settings | GrpoSettings,
    *,
    correction: Floats | None = None,
    padding_id: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tokens:
    """The tensors of a shifted layout, or of some of its rows. A `correction` is as of the objectives in numpy.

    Raises:
        UsageError: a trainable token was sampled at temperature 0, or as of scaled_advantages.
    """
    inputs, targets = places
    sampled_at = batch.temperatures
    if (sampled_at[batch.trainable] == 0.0).any():
        raise UsageError(
            "trainable tokens were sampled at temperature 0: greedy choices have no gradient; sample above 0"
        )

    def ints(values: Ints, at: Ints, padding: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(take(values, at, padding))).to(device)

    def floats(values: Floats, padding: float = 0.0) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(take(values, targets, padding))).to(device, dtype)

    trains = batch.trainable
    return Tokens(
        inputs=ints(batch.ids, inputs, padding_id),
        positions=torch.from_numpy(positions(batch, inputs)).to(device),
        present=torch.from_numpy(inputs != PADDING).to(device),
        targets=ints(batch.ids, targets, padding_id),
        trainable=torch.from_numpy(take(trains, targets, False)).to(device),
        logprobs=floats(np.where(trains, batch.logprobs, 0.0)),
        temperatures=floats(np.where(sampled_at > 0.0, sampled_at, 1.0), 1.0),
        advantages=floats(scaled_advantages(batch, correction)),
        weights=floats(settings.weights(batch)),
        allowed=None if batch.sampling_mask is None else _allowed(batch.sampling_mask, targets).to(device),
    )


def _allowed(mask: SamplingMask, targets: Ints) -> Tensor:
    """int64 [2, N]: of the targets that were drawn from some ids alone, their places and each of these ids."""
    tokens = targets.ravel()
    sizes = np.where(tokens == PADDING, 0, np.diff(mask.offsets)[tokens])
    places = np.repeat(np.arange(len(tokens)), sizes)
    within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ids = mask.ids[np.repeat(mask.offsets[tokens], sizes) + within]
    return torch.from_numpy(np.stack((places, ids.astype(np.int64))))


def token_logprobs(logits: Tensor, tokens: Tokens) -> Tensor:
    """[..., L], nats: of the targets, under `logits` [..., L, V] at the temperature that each was sampled at, and among
    the ids that it was drawn from. Computed in float32 at least."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / tokens.temperatures.unsqueeze(-1)
    normaliser = scaled.logsumexp(-1)
    if tokens.allowed is not None:
        normaliser = _among(scaled, normaliser, *tokens.allowed)
    chosen: Tensor = scaled.gather(-1, tokens.targets.unsqueeze(-1)).squeeze(-1) - normaliser
    return chosen


def _among(scaled: Tensor, whole: Tensor, places: Tensor, ids: Tensor) -> Tensor:
    """log sum exp at each place over its ids alone; `whole`, over all, where it has none."""
    vocabulary = scaled.shape[-1]
    logits = scaled.reshape(-1, vocabulary)[places, ids]
    highest = torch.full_like(whole.reshape(-1), -torch.inf).scatter_reduce(0, places, logits.detach(), "amax")
    masked = highest > -torch.inf
    highest = highest.masked_fill(~masked, 0.0)
    summed = torch.zeros_like(highest).index_add(0, places, (logits - highest[places]).exp())
    among = summed.masked_fill(~masked, 1.0).log() + highest
    return torch.where(masked.reshape(whole.shape), among.reshape(whole.shape), whole)


def k25_loss(new_logprobs: Tensor, tokens: Tokens, settings: K25Settings) -> Tensor:
    """-J of arXiv:2602.02276 §4.4.2, eq. 1, as envhub.trainers.objective.k25_objective computes it; a scalar."""
    log_w = _log_ratios(new_logprobs, tokens)
    inside = (settings.log_low <= log_w) & (log_w <= settings.log_high)
    pull = log_w if settings.tau_outside else log_w.masked_fill(~inside, 0.0)
    gain = log_w.masked_fill(~inside, 0.0).exp() * tokens.advantages.masked_fill(~inside, 0.0)
    return -(tokens.weights * (gain - settings.tau * pull.square())).sum()


def grpo_loss(new_logprobs: Tensor, tokens: Tokens, settings: GrpoSettings) -> Tensor:
    """-J of GRPO or Dr. GRPO, as envhub.trainers.grpo.grpo_objective computes it; a scalar."""
    log_w = _log_ratios(new_logprobs, tokens)
    low, high = log1p(-settings.clip_low), log1p(settings.clip_high)
    clipped = torch.where(tokens.advantages >= 0.0, log_w.clamp(max=high), log_w.clamp(min=low))
    return -(tokens.weights * clipped.exp() * tokens.advantages).sum()


def _log_ratios(new_logprobs: Tensor, tokens: Tokens) -> Tensor:
    """0 where the target does not train, whatever the model gives there."""
    return (new_logprobs - tokens.logprobs).masked_fill(~tokens.trainable, 0.0)
