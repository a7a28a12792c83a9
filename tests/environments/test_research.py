"""Research tasks: exact, hard to guess, and done in fewer critical steps by a swarm than by one agent."""

import json
import re
from collections.abc import Callable
from functools import partial

import pytest

from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.rollout import Limits
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.engines.scripted import ScriptedEngine
from envhub.environments.research.bulk_download import bulk_download_tasks
from envhub.environments.research.deep_search import deep_search_tasks
from envhub.environments.research.long_documents import long_documents_tasks
from envhub.environments.research.pages import corpus
from envhub.environments.research.wide_search import wide_search_tasks
from envhub.environments.research.world import world
from envhub.environments.standalone import StandaloneEpisode
from envhub.monitor.verify import verify
from envhub.registry import EnvironmentSpec, environments
from envhub.testing.environment_suite import EnvironmentSuite
from envhub.testing.runs import open_scripted_run, request
from envhub.tokens.byte_tokenizer import ByteTokenizer
from tests.environments.plans import Plan, call, script_of
from tests.environments.research_work import Bulk, Deep, Long, Wide, Work, alone, swarm

pytestmark = pytest.mark.anyio

KINDS: dict[str, tuple[Work, Callable[..., list[Task]]]] = {
    "envhub/wide-search-v0": (Wide(), wide_search_tasks),
    "envhub/deep-search-v0": (Deep(), deep_search_tasks),
    "envhub/long-documents-v0": (Long(), long_documents_tasks),
    "envhub/bulk-download-v0": (Bulk(), bulk_download_tasks),
}
# Of the first task of each, as docs/environments.md has them: critical steps of one agent, of a swarm; sub-agents.
STEPS = {
    "envhub/wide-search-v0": (19, 8, 8),
    "envhub/deep-search-v0": (26, 9, 5),
    "envhub/long-documents-v0": (15, 9, 4),
    "envhub/bulk-download-v0": (19, 8, 8),
}
ANSWERS = [35525, 4081, 33319, 43711]  # of some tasks of deep search
ENOUGH = Limits(max_turns=100, max_tokens=100_000)


@pytest.mark.parametrize("id", KINDS)
class TestContract(EnvironmentSuite):
    @pytest.fixture
    def spec(self, id: str) -> EnvironmentSpec:
        return environments.get(id)


async def played(id: str, plan: Callable[[str], Plan], agent: str) -> Outcome:
    script = script_of(plan)
    group = request(id, agent=agent, limits=ENOUGH, sampling=Sampling(max_tokens=8000))
    roomy = ScriptedEngine(script, ByteTokenizer(), context_tokens=1 << 20)
    async with open_scripted_run(script, around=lambda engine: roomy, max_running=32) as run:
        (outcome,) = await run.play(group)
        assert (await verify(run.store)).findings == ()
    assert outcome.status is Status.COMPLETED, outcome.failure
    return outcome


@pytest.mark.parametrize("id", KINDS)
async def test_a_swarm_needs_fewer_critical_steps_than_one_agent(id: str) -> None:
    work = KINDS[id][0]
    single = await played(id, partial(alone, work), "tool-loop")
    many = await played(id, partial(swarm, work), "orchestrator")
    assert (single.reward, many.reward) == (1.0, 1.0)
    assert (single.usage.critical_steps, many.usage.critical_steps, many.usage.finished_children) == STEPS[id]


@pytest.mark.parametrize("id", KINDS)
async def test_every_task_can_be_done_with_its_tools(id: str) -> None:
    """All tasks of two worlds, by an agent that knows the pages by what they say alone."""
    work = KINDS[id][0]
    for task in KINDS[id][1](range(2)):
        episode = StandaloneEpisode(environments.get(id))
        await episode.reset(task, seed=0)
        plan = alone(work, task.prompt[0].content)
        answers: list[str] | None = None
        try:
            while True:
                calls = tuple(plan.send(answers))  # type: ignore[arg-type]
                result = await episode.step(Message.assistant("", calls))
                answers = [message.content for message in result.observation.messages]
        except StopIteration as end:
            await episode.step(Message.assistant(end.value))
        assert episode.score is not None and episode.score.scalar == 1.0, task.id
        await episode.close()


@pytest.mark.parametrize("id", KINDS)
def test_no_prompt_says_how_to_work(id: str) -> None:
    told = re.compile(r"parallel|concurren|simultan|side by side|at once|sub-?agent|delegat|assign|swarm|split", re.I)
    for task in KINDS[id][1](range(40)):
        assert not told.search(task.prompt[0].content)


@pytest.mark.parametrize("id", KINDS)
def test_tasks_depend_on_the_seed_alone_and_no_two_are_alike(id: str) -> None:
    tasks_of = KINDS[id][1]
    tasks = tasks_of(range(30))
    world.cache_clear()
    assert tasks_of(range(30)) == tasks
    assert len({task.id for task in tasks}) == len(tasks) == 180
    assert len({str(task.answer) for task in tasks}) == len(tasks)


def test_other_processes_draw_the_same() -> None:
    assert [task.answer for task in deep_search_tasks(range(2))[::3]] == ANSWERS


def test_a_corpus_is_that_of_its_seed() -> None:
    first = corpus(5)
    corpus.cache_clear()
    world.cache_clear()
    assert (corpus(5).pages, corpus(5).files) == (first.pages, first.files)
    assert corpus(6).pages.keys() != first.pages.keys()


def test_every_link_leads_somewhere() -> None:
    made = corpus(0)
    links = {link for page in made.pages.values() for link in re.findall(r"https://[^\s)]+", page.text)}
    assert links - made.pages.keys() - made.files.keys() == set()
    assert len(links) > 300


async def test_a_checksum_is_on_no_page() -> None:
    (task,) = bulk_download_tasks(range(1))[:1]
    pages = "\n".join(page.text for page in corpus(0).pages.values())
    assert not any(row["checksum"] in pages for row in task.answer)  # type: ignore[union-attr,index]


async def test_a_table_gets_the_share_of_its_cells_that_are_right() -> None:
    task = wide_search_tasks(range(1))[0]
    rows = [row | {"height": 0, "founded": 0} for row in task.answer]  # type: ignore[union-attr,operator]
    episode = StandaloneEpisode(environments.get("envhub/wide-search-v0"))
    await episode.reset(task, seed=0)
    await episode.step(Message.assistant(json.dumps(rows)))
    assert episode.score is not None
    assert episode.score.scalar == 0.5


async def test_of_several_calls_in_an_action_the_first_alone_is_run() -> None:
    episode = StandaloneEpisode(environments.get("envhub/wide-search-v0"))
    await episode.reset(wide_search_tasks(range(1))[0], seed=0)
    calls = tuple(call("search", queries=[query]) for query in ("stations", "towns"))
    first, second = (await episode.step(Message.assistant("", calls))).observation.messages
    assert first.content.startswith("stations: 5 pages")
    assert second.content == "one call an action; make this one in the next"
