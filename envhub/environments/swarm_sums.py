"""envhub/swarm-sums-v0: more pages to read than one agent has critical steps for, and enough for a swarm.

Arranged after the toy of arXiv:2602.02276 §3: time is counted along the longest chain of actions, so that reading side
by side is all that helps. The prompt does not say so.
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from string import ascii_uppercase
from typing import cast

from envhub.contracts.environment import Environment
from envhub.contracts.task import Task
from envhub.environments.one_call import OneCallEnvironment
from envhub.registry import environment
from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset
from judges.text import number

PAGES = 8
CRITICAL_STEPS = 6  # create, assign + (read, answer), answer: 5; one agent alone: 9


class Pages(Toolset):
    """The task's pages, by their letters."""

    @tool
    async def read_page(self, page: str) -> str:
        """Read the number on a page.

        Args:
            page: its letter.
        """
        pages = cast("Mapping[str, int]", self.ctx.request.task.metadata["pages"])
        if page not in pages:
            raise ValueError(f"there is no page '{page}'; there are {', '.join(pages)}")
        return str(pages[page])


def paged_sums() -> list[Task]:
    """50 tasks, always the same."""
    random = Random(0)
    return [_task(index, [random.randrange(1, 10) for _ in range(PAGES)]) for index in range(50)]


@environment("envhub/swarm-sums-v0", tasks=paged_sums, max_critical_steps=CRITICAL_STEPS)
def swarm_sums() -> Environment:
    """The sum of numbers on eight pages, in fewer critical steps than there are pages: for `--agent orchestrator`."""
    return OneCallEnvironment(Pages, number)


def _task(index: int, numbers: list[int]) -> Task:
    letters = ascii_uppercase[:PAGES]
    question = f"Add up the numbers on the pages {', '.join(letters)}. Answer with the sum."
    pages = dict(zip(letters, numbers, strict=True))
    return replace(Task.ask(question, sum(numbers), id=f"pages-{index}"), metadata={"pages": pages})
