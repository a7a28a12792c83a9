"""World: an archipelago with its weather stations, their keepers, logbooks and records, all drawn from one seed."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from random import Random

from envhub.environments.research.names import SHIPS, Names

ISLANDS = 6
STATIONS = (4, 12)  # on an island
TOWNS = 24
TEACHERS = 20
VOLUMES = (3, 6)  # of the logbook of an island's first station
DAYS = 120  # in a volume
ARRIVALS = (1, 4)  # of ships in a volume
REVISIONS = (1, 4)  # of a station's records
READINGS = 24  # in a revision
KEPT_WORLDS = 16


@dataclass(frozen=True, slots=True)
class Town:
    name: str
    people: int


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    born: int  # year
    birthplace: Town


@dataclass(frozen=True, slots=True)
class Keeper(Person):
    teacher: Person


@dataclass(frozen=True, slots=True)
class Arrival:
    """A ship that put in at a station."""

    day: date
    ship: str
    pieces: int  # of cargo that it landed


@dataclass(frozen=True, slots=True)
class Volume:
    """A logbook's, from `first` on, a line a day."""

    first: date
    arrivals: tuple[Arrival, ...]  # a day at most one

    @property
    def year(self) -> int:
        return self.first.year


@dataclass(frozen=True, slots=True)
class Station:
    name: str
    founded: int  # year
    height_m: int
    keeper: Keeper
    keeper_before: Keeper
    revisions: tuple[bytes, ...]  # of its records, the current one last
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Island:
    name: str
    stations: tuple[Station, ...]


@dataclass(frozen=True, slots=True)
class World:
    seed: int
    islands: tuple[Island, ...]
    towns: tuple[Town, ...]
    people: tuple[Person, ...]

    @property
    def stations(self) -> tuple[Station, ...]:
        return tuple(station for island in self.islands for station in island.stations)


@lru_cache(maxsize=KEPT_WORLDS)
def world(seed: int) -> World:
    """The world of a seed: always the same."""
    return _Draw(seed).world()


class _Draw:
    """What one seed gives."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(f"research/{seed}")
        self._names = Names(self._random)
        self._towns = tuple(Town(self._names.place(), self._random.randrange(300, 20_000)) for _ in range(TOWNS))
        self._teachers = tuple(self._teacher() for _ in range(TEACHERS))
        self._keepers: list[Keeper] = []

    def world(self) -> World:
        islands = tuple(self._island() for _ in range(ISLANDS))
        return World(self._seed, islands, self._towns, (*self._teachers, *self._keepers))

    def _island(self) -> Island:
        count = self._random.randint(*STATIONS)
        return Island(self._names.place(), tuple(self._station(has_logbook=not place) for place in range(count)))

    def _station(self, *, has_logbook: bool) -> Station:
        random, founded = self._random, self._random.randrange(1860, 1910)
        keepers = self._keeper(founded), self._keeper(founded)
        revisions = tuple(self._readings() for _ in range(random.randint(*REVISIONS)))
        volumes = self._volumes(founded) if has_logbook else ()
        return Station(self._names.place(), founded, random.randrange(2, 900), *keepers, revisions, volumes)

    def _teacher(self) -> Person:
        return Person(self._names.person(), self._random.randrange(1780, 1810), self._random.choice(self._towns))

    def _keeper(self, founded: int) -> Keeper:
        random = self._random
        born, home = founded - random.randrange(25, 50), random.choice(self._towns)
        keeper = Keeper(self._names.person(), born, home, random.choice(self._teachers))
        self._keepers.append(keeper)
        return keeper

    def _volumes(self, founded: int) -> tuple[Volume, ...]:
        count = self._random.randint(*VOLUMES)
        return tuple(self._volume(founded + 1 + place) for place in range(count))

    def _volume(self, year: int) -> Volume:
        random, first = self._random, date(year, self._random.randrange(1, 9), 1)
        days = sorted(random.sample(range(DAYS), random.randint(*ARRIVALS)))
        return Volume(first, tuple(self._arrival(first + timedelta(day)) for day in days))

    def _arrival(self, day: date) -> Arrival:
        return Arrival(day, self._random.choice(SHIPS), self._random.randrange(2, 60))

    def _readings(self) -> bytes:
        rows = (f"{hour},{self._random.uniform(-20, 25):.1f}" for hour in range(READINGS))
        return "\n".join(("hour,celsius", *rows, "")).encode()
