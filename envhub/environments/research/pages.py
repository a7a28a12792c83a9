"""The pages of a world: what is true of it, said in prose, with what is nearly true beside it."""

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from random import Random
from typing import cast

from envhub.contracts.task import Task
from envhub.environments.research.names import SHIPS
from envhub.environments.research.world import (
    DAYS,
    KEPT_WORLDS,
    Arrival,
    Island,
    Keeper,
    Person,
    Station,
    Town,
    Volume,
    World,
    world,
)
from envhub.toolsets.corpus import Corpus, Page

SITE = "https://archive.example"
# No word tells an arrival from another day: only what the line says does.
ARRIVALS = (
    "The {ship} put in at noon and landed {pieces} crates.",
    "Early in the morning the {ship} made fast at our jetty; we carried {pieces} barrels up.",
    "Boat day: {pieces} sacks from the {ship}, which left again with the tide.",
    "With the {ship} came {pieces} cases, all of them dry.",
)
OTHER_DAYS = (
    "Fog until the evening. The {ship} passed to the north without stopping; we heard her bell.",
    "Counted the store: {pieces} crates are left, none of them opened.",
    "We looked out for the {ship} all day. She did not come.",
    "Snow on the jetty. Burned {pieces} sacks of coal since last week.",
    "The {ship} turned back before the reef, so the mail has to wait, and so have {pieces} barrels.",
    "Mended the gauge. Gusts up to {pieces} knots in the night.",
    "Quiet day. The cat sleeps on the {pieces} cases under the stairs.",
)


@lru_cache(maxsize=KEPT_WORLDS)
def corpus(seed: int) -> Corpus:
    """The corpus of the world of a seed: always the same."""
    drawn = world(seed)
    files = {
        file_url(station, number): data for station in drawn.stations for number, data in enumerate(station.revisions)
    }
    return Corpus(_pages(drawn), files)


def corpus_of(task: Task) -> Corpus:
    """The corpus that a task is about, or the task that a sub-agent was given on its behalf."""
    return corpus(cast("int", task.metadata["world"]))


def url(kind: str, name: str) -> str:
    """The address of a page of that kind."""
    return f"{SITE}/{kind}/{name.lower().replace(' ', '-')}"


def file_url(station: Station, revision: int) -> str:
    """The address of a revision of a station's records, counted from 0."""
    return f"{SITE}/files/{station.name.lower()}-r{revision + 1}.csv"


def _pages(world: World) -> Iterator[Page]:
    for island in world.islands:
        yield _island(island)
        yield _catalogue(island)
        for station in island.stations:
            yield _station(station, island)
            yield _records(station)
            for volume in station.volumes:
                yield _volume(station, volume)
    yield from map(_person, world.people)
    yield from map(_town, world.towns)


def _island(island: Island) -> Page:
    stations = "\n".join(f"- {station.name}: {url('stations', station.name)}" for station in island.stations)
    text = f"{island.name} is one of the islands of the archipelago.\nWeather stations on {island.name}:\n{stations}"
    return Page(url("islands", island.name), f"The island of {island.name}", text)


def _catalogue(island: Island) -> Page:
    records = "\n".join(f"- {station.name}: {url('records', station.name)}" for station in island.stations)
    text = f"Records of the weather stations on {island.name}, a page each:\n{records}"
    return Page(url("catalogue", island.name), f"Catalogue of records: {island.name}", text)


def _station(station: Station, island: Island) -> Page:
    keeper, before = station.keeper, station.keeper_before
    lines = [
        f"{station.name} is a weather station on {island.name} ({url('islands', island.name)}).",
        f"It was planned in {station.founded - 3}, founded in {station.founded} and enlarged in {station.founded + 9}.",
        f"The gauge stands {station.height_m} metres above the sea; the hut, {station.height_m + 7} metres.",
        f"Its keeper is {keeper.name} ({url('people', keeper.name)}).",
        f"The keeper before was {before.name} ({url('people', before.name)}).",
    ]
    if station.volumes:
        lines.append("Volumes of its logbook:")
        lines += [f"- {volume.year}: {_volume_url(station, volume)}" for volume in station.volumes]
    return Page(url("stations", station.name), f"{station.name} weather station", "\n".join(lines))


def _records(station: Station) -> Page:
    last = len(station.revisions) - 1
    lines = [f"Records of {station.name} ({url('stations', station.name)})."]
    for number in range(len(station.revisions)):
        state = "current" if number == last else f"withdrawn, see revision {number + 2}"
        lines.append(f"- revision {number + 1}, {state}: {file_url(station, number)}")
    return Page(url("records", station.name), f"Records of {station.name}", "\n".join(lines))


def _person(person: Person) -> Page:
    home = person.birthplace
    lines = [f"{person.name} was born in {person.born} in {home.name} ({url('towns', home.name)})."]
    if isinstance(person, Keeper):
        lines.append(f"Learned the trade from {person.teacher.name} ({url('people', person.teacher.name)}).")
    return Page(url("people", person.name), person.name, "\n".join(lines))


def _town(town: Town) -> Page:
    earlier = round(town.people * 0.8)
    return Page(
        url("towns", town.name),
        f"The town of {town.name}",
        f"{town.name} is a town of the archipelago.\nIt has {town.people} people; ten years ago it had {earlier}.",
    )


def _volume(station: Station, volume: Volume) -> Page:
    text = "\n".join(_days(station, volume))
    return Page(_volume_url(station, volume), f"Logbook of {station.name}, {volume.year}", text)


def _volume_url(station: Station, volume: Volume) -> str:
    return url("logbooks", f"{station.name}-{volume.year}")


def _days(station: Station, volume: Volume) -> Iterator[str]:
    random = Random(f"{station.name}/{volume.year}")
    arrivals = {arrival.day: arrival for arrival in volume.arrivals}
    for number in range(DAYS):
        day = volume.first + timedelta(number)
        form = random.choice(ARRIVALS if day in arrivals else OTHER_DAYS)
        told = arrivals.get(day) or Arrival(day, random.choice(SHIPS), random.randrange(2, 60))
        yield f"{day}. {form.format(ship=told.ship, pieces=told.pieces)}"
