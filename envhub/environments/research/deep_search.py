"""envhub/deep-search-v0: chains of pages of which each names the next, and a sum over their ends."""

from collections.abc import Iterable, Iterator
from functools import partial
from random import Random

from envhub.contracts.environment import Environment
from envhub.contracts.task import Task
from envhub.environments.one_call import OneCallEnvironment
from envhub.environments.research.pages import corpus_of
from envhub.environments.research.tasks import WORLDS, about, tasks_over
from envhub.environments.research.world import Station, Town, World
from envhub.registry import environment
from envhub.toolsets.search import SearchToolset
from judges.text import number

TASKS = 6  # in a world
CHAINS = (3, 6)
QUESTION = (
    "Each of the weather stations {stations} has a keeper, who learned the trade from somebody, who was born in some "
    "town. How many people do these {count} towns have today, all together? Answer with the number."
)


def deep_search_tasks(worlds: Iterable[int] = WORLDS) -> list[Task]:
    """Some tasks for each world, of three to six chains."""
    return tasks_over(worlds, _tasks)


@environment("envhub/deep-search-v0", tasks=deep_search_tasks)
def deep_search() -> Environment:
    """A number that is summed over the ends of several chains of pages."""
    return OneCallEnvironment(partial(SearchToolset, corpus_of), number)


def _tasks(world: World) -> Iterator[Task]:
    random = Random(f"deep/{world.seed}")
    for index in range(TASKS):
        chains = _chains(world, random)
        *names, last = [station.name for _, station in chains]
        question = QUESTION.format(stations=f"{', '.join(names)} and {last}", count=len(chains))
        yield about(world, f"deep-{index}", question, sum(town.people for town, _ in chains))


def _chains(world: World, random: Random) -> list[tuple[Town, Station]]:
    """Towns, none twice, each with a station from which it is found."""
    ends: dict[Town, Station] = {}
    for station in random.sample(world.stations, len(world.stations)):
        ends.setdefault(station.keeper.teacher.birthplace, station)
    return random.sample(list(ends.items()), min(len(ends), random.randint(*CHAINS)))
