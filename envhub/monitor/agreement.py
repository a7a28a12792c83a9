"""Agreement: whether the components of the same scores say the same."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

MOST_COMPONENTS = 12  # whose agreement is told
AGREE = 0.5  # components from here on say yes


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Two components of the same scores."""

    a: str
    b: str
    rollouts: int  # that have both
    agreement: float  # share in which both say yes or both no
    correlation: float | None  # Pearson's; None: one of them is always the same


def judge_agreement(scores: Iterable[Mapping[str, float]]) -> list[JudgeAgreement]:
    """Of each two components that the same scores have; those that agree least first."""
    scores = list(scores)
    names = [name for name, _ in Counter(name for score in scores for name in score).most_common(MOST_COMPONENTS)]
    found = []
    for a, b in combinations(sorted(names), 2):
        pairs = np.array([(score[a], score[b]) for score in scores if a in score and b in score])
        if len(pairs):
            agree = float(((pairs[:, 0] >= AGREE) == (pairs[:, 1] >= AGREE)).mean())
            varies = bool((pairs.std(axis=0) > 0).all())
            correlation = float(np.corrcoef(pairs.T)[0, 1]) if varies else None
            found.append(JudgeAgreement(a, b, len(pairs), agree, correlation))
    return sorted(found, key=lambda one: one.agreement)
