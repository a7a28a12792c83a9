"""What a trainer may ask its own engine for: sampling whose log probabilities are those of the policy itself."""

from collections.abc import Mapping
from typing import Any

from envhub.errors import UsageError

NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # of each way to sample otherwise, what leaves it out
    "top_p": (None, 1, 1.0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0, 0.0),
    "repetition_penalty": (None, 1, 1.0),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
}


PLAIN: Mapping[str, float] = {  # what servers are asked for, whatever their own defaults
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


def check_plain(asked: Mapping[str, Any]) -> None:
    """
    Raises:
        UsageError: the trainer cuts or bends the distribution, other than by a temperature.
    """
    for name, neutral in NEUTRAL.items():
        if asked.get(name) not in neutral:
            raise UsageError(
                f"{name} is {asked[name]}; log probabilities are exact only of the whole distribution: set it to "
                f"{neutral[-1]}"
            )
