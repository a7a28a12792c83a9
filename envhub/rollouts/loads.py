"""Loads: who of many has the least to do, found without a look at each of them."""

from collections import defaultdict
from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


class Loads(Generic[Who]):
    """Whoever is added has a load, a number from 0 on."""

    def __init__(self) -> None:
        self._load: dict[Who, int] = {}
        self._with: defaultdict[int, dict[Who, None]] = defaultdict(dict)  # in the order in which they came to it
        self._least = 0  # nobody has less

    def add(self, who: Who) -> None:
        """With nothing to do yet."""
        self._load[who] = self._least = 0
        self._with[0][who] = None

    def __contains__(self, who: Who) -> bool:
        return who in self._load

    def remove(self, who: Who) -> None:
        """Nothing, where it was not added."""
        if who in self._load:
            self._leave(who)

    def change(self, who: Who, load: int) -> None:
        """Nothing, where it is not there any more."""
        if who in self._load:
            self._leave(who)
            self._load[who] = load
            self._with[load][who] = None
            self._least = min(self._least, load)

    def least(self) -> Who | None:
        """Of those with the least, who came to it first; None where nobody is there."""
        if not self._load:
            return None
        while self._least not in self._with:
            self._least += 1
        return next(iter(self._with[self._least]))

    def _leave(self, who: Who) -> None:
        load = self._load.pop(who)
        del self._with[load][who]
        if not self._with[load]:
            del self._with[load]
