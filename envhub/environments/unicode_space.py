"""UnicodeSpace: any text, as a Gymnasium space; gymnasium.spaces.Text has a fixed set of characters."""

from typing import Any

import numpy as np
from gymnasium.spaces import Space

SAMPLE_LENGTH = 32  # the most characters of a sample
FIRST_SURROGATE, SURROGATES, CODE_POINTS = 0xD800, 0x800, 0x110000


class UnicodeSpace(Space[str]):
    """All strings that UTF-8 can carry, the empty one included."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A text of random characters, from all of Unicode."""
        codes = self.np_random.integers(CODE_POINTS - SURROGATES, size=self.np_random.integers(SAMPLE_LENGTH + 1))
        return "".join(chr(code + SURROGATES if code >= FIRST_SURROGATE else code) for code in codes.tolist())

    def contains(self, x: Any) -> bool:
        """Whether x is a string without lone surrogates."""
        if not isinstance(x, str):
            return False
        try:
            x.encode()
        except UnicodeEncodeError:
            return False
        return True

    def __repr__(self) -> str:
        return "UnicodeSpace()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeSpace)

    def __hash__(self) -> int:
        return hash(UnicodeSpace)
