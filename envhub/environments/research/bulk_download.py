"""envhub/bulk-download-v0: many files to download, each found on a page of its own among others like it."""

from collections.abc import Iterable, Iterator
from functools import partial

from envhub.contracts.environment import Environment
from envhub.contracts.task import Task
from envhub.environments.one_call import OneCallEnvironment
from envhub.environments.research.pages import corpus_of
from envhub.environments.research.tasks import WORLDS, about, tasks_over
from envhub.environments.research.world import Island, World
from envhub.registry import environment
from envhub.toolsets.search import DownloadToolset, checksum
from judges.tables import TableF1

QUESTION = (
    "Download the current records of every weather station on the island of {island}; its catalogue of records lists "
    "them. Answer with a markdown table of these columns: station; bytes, the size of the file; checksum, as the "
    "receipt of the download gives it."
)


def bulk_download_tasks(worlds: Iterable[int] = WORLDS) -> list[Task]:
    """A task for each island."""
    return tasks_over(worlds, _tasks)


@environment("envhub/bulk-download-v0", tasks=bulk_download_tasks)
def bulk_download() -> Environment:
    """Files to download, marked by what their receipts say: nobody knows a checksum who has not downloaded the file."""
    return OneCallEnvironment(partial(DownloadToolset, corpus_of), TableF1(("station",)))


def _tasks(world: World) -> Iterator[Task]:
    for island in world.islands:
        yield about(world, f"bulk-{island.name}", QUESTION.format(island=island.name), _table(island))


def _table(island: Island) -> list[dict[str, str | int]]:
    return [
        {"station": station.name, "bytes": len(data), "checksum": checksum(data)}
        for station in island.stations
        for data in station.revisions[-1:]
    ]
