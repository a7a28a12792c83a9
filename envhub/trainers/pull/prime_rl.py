"""prime-rl: `TrainingSample(**record)` for each record."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from envhub.contracts.turn import Span
from envhub.feed.codec import TrainerGroup
from envhub.trainers.pull.samples import Rows, Sample, samples

T = TypeVar("T")


class Replay(Protocol):
    """Makes prime-rl's records of what is replayed, as the module that has its TrainingSample does."""

    def RoutedExperts(self, data: bytes, shape: list[int], dtype: str) -> object: ...

    def SamplingMask(self, ids: bytes, counts: bytes) -> object: ...


def training_samples(
    group: TrainerGroup, rows: Rows = Rows.ALL, *, by_std: bool = False, replay: Replay | None = None
) -> list[dict[str, object]]:
    """Keyword arguments of TrainingSample: a branch as one flat sequence, all streams by token. With `replay`, the
    module of TrainingSample, also the experts that tokens were routed to and the ids that they were drawn from, where
    the group has them (FeedClient.with_files)."""
    return [
        _record(sample) | (_replayed(sample, replay) if replay else {})
        for sample in samples(group, rows, by_std=by_std)
    ]


def _replayed(sample: Sample, replay: Replay) -> dict[str, object]:
    replayed: dict[str, object] = {}
    if (experts := sample.experts) is not None:
        whole = np.concatenate((experts, np.zeros_like(experts[:1])))  # it wants as many as there are tokens
        replayed["routed_experts"] = replay.RoutedExperts(whole.tobytes(), list(whole.shape), str(whole.dtype))
    if (mask := sample.sampling_mask) is not None:
        counts = np.diff(mask.offsets).astype(np.int32)
        replayed["sampling_mask"] = replay.SamplingMask(mask.ids.tobytes(), counts.tobytes())
    return replayed


def _record(sample: Sample) -> dict[str, object]:
    return {
        "token_ids": sample.ids.tolist(),
        "mask": _by_token(sample, lambda span: span.trainable),
        "logprobs": sample.logprobs.tolist(),
        "temperatures": _by_token(sample, lambda span: span.temperature or 1.0),  # it divides logits by them
        "env_name": sample.group.environment,
        "advantages": _by_token(sample, lambda span: sample.advantage if span.trainable else 0.0),
    }


def _by_token(sample: Sample, of_span: Callable[[Span], T]) -> list[T]:
    values: list[T] = []
    for span in sample.row.row.spans:
        values += [of_span(span)] * (span.end - span.start)
    return values
