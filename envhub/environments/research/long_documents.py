"""envhub/long-documents-v0: what is said on a few days of logbooks that have to be read from the first to the last."""

from collections.abc import Iterable, Iterator
from functools import partial

from envhub.contracts.environment import Environment
from envhub.contracts.task import Task
from envhub.environments.one_call import OneCallEnvironment
from envhub.environments.research.pages import corpus_of
from envhub.environments.research.tasks import WORLDS, about, tasks_over
from envhub.environments.research.world import Station, World
from envhub.registry import environment
from envhub.toolsets.search import SearchToolset
from judges.tables import TableF1

QUESTION = (
    "Which ships put in at the weather station {station}, by all volumes of its logbook ({years})? Answer with a "
    "markdown table of these columns: date, as the logbook writes it; ship; pieces, of cargo that it landed there."
)


def long_documents_tasks(worlds: Iterable[int] = WORLDS) -> list[Task]:
    """A task for each station that has a logbook."""
    return tasks_over(worlds, _tasks)


@environment("envhub/long-documents-v0", tasks=long_documents_tasks)
def long_documents() -> Environment:
    """A table of what several long documents say in ever other words, marked by its cells."""
    return OneCallEnvironment(partial(SearchToolset, corpus_of), TableF1(("date",)))


def _tasks(world: World) -> Iterator[Task]:
    for station in world.stations:
        if station.volumes:
            years = ", ".join(str(volume.year) for volume in station.volumes)
            question = QUESTION.format(station=station.name, years=years)
            yield about(world, f"long-{station.name}", question, _table(station))


def _table(station: Station) -> list[dict[str, str | int]]:
    return [
        {"date": str(arrival.day), "ship": arrival.ship, "pieces": arrival.pieces}
        for volume in station.volumes
        for arrival in volume.arrivals
    ]
