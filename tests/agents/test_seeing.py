"""Pictures end to end: from a tool's file to the model, the rows, the store and a worker's pipe."""

from collections.abc import Mapping
from pathlib import Path
from struct import pack

import msgspec
import pytest

from envhub.contracts.environment import Resume
from envhub.contracts.events import TurnRecorded
from envhub.contracts.ids import RunId
from envhub.contracts.messages import Image, Message
from envhub.contracts.task import Task
from envhub.contracts.toolset import ToolResult
from envhub.contracts.turn import Fork
from envhub.engines.scripted import ScriptInput
from envhub.environments import ToolEnvironment
from envhub.monitor.verify import verify
from envhub.registry import environment, environments
from envhub.rollouts import wire
from envhub.store.files import filed_in
from envhub.store.memory_store import MemoryTraceStore
from envhub.store.sql_store import open_store
from envhub.testing.cut_store import CutStore
from envhub.testing.runs import open_scripted_run, request
from envhub.tokens import byte_tokenizer
from envhub.toolsets import Toolset, tool

pytestmark = pytest.mark.anyio

PLACEHOLDER = "<|image|>"
SHOWS = byte_tokenizer.CHATML_TEMPLATE.replace(
    "message['content'] +",
    "(message['content'] if message['content'] is string else"
    " (message['content'] | map(attribute='text', default='<|image|>') | join(''))) +",
)
LOOK = '<tool_call>{"name": "screenshot", "arguments": {}}</tool_call>'
SCREENS = 5


def png(number: int) -> bytes:
    """The beginning of a PNG of so many pixels: nobody here looks at more."""
    return b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", number, 8) + bytes(5)


class SeeingTokenizer(byte_tokenizer.ByteTokenizer):
    @property
    def special_ids(self) -> Mapping[str, int]:
        return {**super().special_ids, PLACEHOLDER: 258}


class Screen(Toolset):
    def __init__(self) -> None:
        self.taken = 0

    @tool
    def screenshot(self) -> ToolResult:
        """Look."""
        self.taken += 1
        return ToolResult(f"screenshot {self.taken}", images=(png(self.taken),))


GOAL = Message.user("Look five times. It shall be like this.", png(100))


@environment("test/screen-v0", tasks=[Task("screen", (GOAL,))], context="last-n-images")
def screen() -> ToolEnvironment:
    return ToolEnvironment(Screen, lambda input: float("seen" in input.response))


class Eyes:
    """What the model saw at each call."""

    def __init__(self) -> None:
        self.saw: list[list[int]] = []

    def __call__(self, asked: ScriptInput) -> str:
        assert asked.prompt.count(PLACEHOLDER) == len(asked.images)
        assert all(Image.of(image.data).sha256 == image.sha256 for image in asked.images)
        self.saw.append([image.width for image in asked.images])
        return "I have seen it." if f"screenshot {SCREENS}" in asked.prompt else LOOK


@pytest.fixture(autouse=True)
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted runs over a model that sees."""
    monkeypatch.setattr("envhub.testing.runs.ByteTokenizer", SeeingTokenizer)
    monkeypatch.setattr("envhub.testing.runs.CHATML_TEMPLATE", SHOWS)


async def test_the_last_screenshots_and_the_tasks_picture_are_seen_and_stored_once(tmp_path: Path):
    eyes, store = Eyes(), await open_store(str(tmp_path / "traces.db"))
    async with open_scripted_run(eyes, store=store) as run:
        (outcome,) = await run.play(request("test/screen-v0"))
        turns = [event.turn for event in await run.events() if isinstance(event, TurnRecorded)]
    assert outcome.reward == 1.0
    assert eyes.saw == [[100], [100, 1], [100, 1, 2], [100, 1, 2, 3], [100, 2, 3, 4], [100, 3, 4, 5]]
    assert [turn.fork for turn in turns] == ["", "", "", "", Fork.COMPACTION, Fork.COMPACTION]
    rows = outcome.trajectory.rows
    assert [[shown.image.width for shown in row.images] for row in rows] == eyes.saw[3:]
    assert all(row.ids[shown.start : shown.end].tolist() == [258] for row in rows for shown in row.images)
    assert await store.file(Image.of(png(3)).sha256) == png(3)
    assert (await verify(store, RunId("test"))).ok
    await store.close()
    payload = (tmp_path / "traces.db").read_bytes()
    assert payload.count(png(3)) == 1


@pytest.mark.parametrize("resume", [Resume.RECORDS, Resume.RERUN_TOOLS])
async def test_a_rollout_goes_on_in_another_process_with_the_pictures_it_had(resume: Resume):
    name = f"test/screen-{resume}-v0"
    if name not in environments.names():
        environment(name, tasks=[Task("screen", (GOAL,))], resume=resume)(screen)
    store = MemoryTraceStore()
    with pytest.raises(ExceptionGroup):
        async with open_scripted_run(Eyes(), store=CutStore(store, 7, after_commit=False)) as run:
            await run.manager.start(request(name))
            await run.manager.finish()
    async with open_scripted_run(eyes := Eyes(), store=store, resume=True) as run:
        await run.manager.finish()
    assert eyes.saw[0] == [100, 1, 2]  # the first two calls are in the records
    shown = [image async for event in store.events(RunId("test"), files=True) for image in filed_in(event)]
    assert all(image.data for image in shown)
    assert (await verify(store)).ok


async def test_a_workers_events_carry_the_files_once_to_the_process_that_stores_them():
    async with open_scripted_run(Eyes()) as run:
        await run.play(request("test/screen-v0"))
        events = [event async for event in run.store.events(RunId("test"), files=True)]
    for event in events:
        (sent,) = wire.FROM_WORKER.decode(msgspec.msgpack.encode([wire.Recorded.of(event)]))
        assert isinstance(sent, wire.Recorded)
        assert [image.data for image in filed_in(sent.event)] == [image.data for image in filed_in(event)]
        assert not any(file in sent.payload for file in sent.files.values())
    assert any(wire.Recorded.of(event).files for event in events)
