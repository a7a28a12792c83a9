"""Vocabulary: a tokenizer that learns its words as it goes, so that made-up tokens read like text."""

import re
from collections.abc import Sequence

import numpy as np

from envhub.contracts.turn import Ids

_PIECES = re.compile(r" ?[^\W\d_]+|\d| ?[^\w\s]+|\s+|.", re.DOTALL)


class Vocabulary:
    """Ids count the pieces in the order in which they were first seen. Decoding gives back the text exactly."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []

    def encode(self, text: str) -> Ids:
        return np.fromiter((self._id(piece) for piece in _PIECES.findall(text)), np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._pieces[id] for id in ids)

    def _id(self, piece: str) -> int:
        id = self._ids.get(piece)
        if id is None:
            id = self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return id
