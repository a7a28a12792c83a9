"""Names that no model has read of, each given once."""

from random import Random

BEGINNINGS = (
    "Al", "Bre", "Cor", "Dun", "El", "Fal", "Gar", "Hel", "Is", "Jor", "Kel", "Lor", "Mar",
    "Nor", "Os", "Pen", "Quil", "Ras", "Sel", "Tor", "Ul", "Var", "Wes", "Yar", "Zel",
)  # fmt: skip
MIDDLES = ("ba", "da", "fi", "ga", "la", "mi", "na", "pe", "ra", "si", "to", "ve")
PLACE_ENDS = ("bury", "dale", "ford", "ham", "holm", "mouth", "ness", "sound", "stead", "wick")
FAMILY_ENDS = ("ckley", "dric", "lund", "mont", "nger", "rsen", "ster", "th", "val", "wyn")
GIVEN = (
    "Ada", "Bruno", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irma", "Jonas",
    "Karin", "Leon", "Mira", "Nils", "Olga", "Piet", "Rosa", "Sven", "Thea", "Viktor",
)  # fmt: skip
SHIPS = (
    "Albatross", "Bluebell", "Cormorant", "Daisy", "Endeavour", "Fulmar", "Gannet", "Heron", "Ibis", "Jackdaw",
    "Kestrel", "Lapwing", "Marigold", "Nightjar", "Osprey", "Petrel", "Quail", "Razorbill", "Starling", "Tern",
)  # fmt: skip


class Names:
    """Names drawn from `random`, none twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._given: set[str] = set()

    def place(self) -> str:
        """Like Kelfiholm."""
        return self._new(PLACE_ENDS)

    def person(self) -> str:
        """Like Ada Torlund: no two people share a family name."""
        return f"{self._random.choice(GIVEN)} {self._new(FAMILY_ENDS)}"

    def _new(self, ends: tuple[str, ...]) -> str:
        while True:
            name = "".join(map(self._random.choice, (BEGINNINGS, MIDDLES, ends)))
            if name not in self._given:
                self._given.add(name)
                return name
