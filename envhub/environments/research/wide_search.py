"""envhub/wide-search-v0: a table with a row for each of many things, each to be looked up in places of its own."""

from collections.abc import Iterable, Iterator
from functools import partial

from envhub.contracts.environment import Environment
from envhub.contracts.task import Task
from envhub.environments.one_call import OneCallEnvironment
from envhub.environments.research.pages import corpus_of
from envhub.environments.research.tasks import WORLDS, about, tasks_over
from envhub.environments.research.world import Island, World
from envhub.registry import environment
from envhub.toolsets.search import SearchToolset
from judges.tables import TableF1

QUESTION = (
    "List all weather stations on the island of {island}. Answer with a markdown table of these columns: station; "
    "founded, the year; height, that of its gauge in metres; keeper born, the year of birth of its present keeper."
)


def wide_search_tasks(worlds: Iterable[int] = WORLDS) -> list[Task]:
    """A task for each island."""
    return tasks_over(worlds, _tasks)


@environment("envhub/wide-search-v0", tasks=wide_search_tasks)
def wide_search() -> Environment:
    """A table of things that are described on pages of their own, marked by its cells."""
    return OneCallEnvironment(partial(SearchToolset, corpus_of), TableF1(("station",)))


def _tasks(world: World) -> Iterator[Task]:
    for island in world.islands:
        yield about(world, f"wide-{island.name}", QUESTION.format(island=island.name), _table(island))


def _table(island: Island) -> list[dict[str, str | int]]:
    return [
        {
            "station": station.name,
            "founded": station.founded,
            "height": station.height_m,
            "keeper born": station.keeper.born,
        }
        for station in island.stations
    ]
