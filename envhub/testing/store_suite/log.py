"""The event log: what goes in comes back, whatever it says."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from envhub.contracts.events import Event, LogRecorded, RolloutStarted, RunStarted, TurnRecorded
from envhub.contracts.files import FileBytes
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.messages import Image, Message
from envhub.contracts.outcome import Failure
from envhub.contracts.store import RolloutQuery, TraceStore
from envhub.contracts.token_file import SamplingMask, TokenFile
from envhub.contracts.turn import PromptImage
from envhub.errors import Boundary, StoreError
from envhub.store.files import filed_in
from envhub.store.sealed import sealed, stored
from envhub.testing.store_suite.base import Base
from envhub.testing.store_suite.tools import HOSTILE, RUN, read, summaries, summary
from envhub.testing.traces import SampleRun, plain, sample_events, sample_turn


class Log(Base):
    """The event log: what goes in comes back, whatever it says."""

    async def test_events_come_back_as_they_went_in_and_in_order(self, store: TraceStore) -> None:
        events = sample_events()
        for event in events:
            await store.append([event])
        assert await read(store) == [plain(event) for event in events]

    async def test_sealed_events_are_the_same_as_open_ones(self, store: TraceStore) -> None:
        one, other = sample_events("one"), sample_events("other")
        await store.append(one)
        await store.append([sealed(*stored(event)) for event in other])
        assert [plain(event) async for event in store.events(RunId("other"))] == [plain(event) for event in other]
        assert await summaries(store, "one") == await summaries(store, "other")

    async def test_events_of_one_rollout_are_only_its_own(self, store: TraceStore) -> None:
        events = sample_events()
        await store.append(events)
        for id in {event.rollout_id for event in events if isinstance(event, RolloutStarted)}:
            own = [plain(event) for event in events if getattr(event, "rollout_id", None) == id]
            assert await read(store, id) == own

    async def test_unknown_names_give_nothing(self, store: TraceStore) -> None:
        assert await read(store) == []
        assert await store.runs() == ()
        assert await store.groups(RUN) == ()
        assert await store.rollout(RolloutId("none")) is None
        page = await store.rollouts(RolloutQuery(run_id=RUN))
        assert (page.rollouts, page.next_cursor, page.total) == ((), "", 0)

    async def test_empty_batch_is_fine(self, store: TraceStore) -> None:
        await store.append([])
        assert await store.runs() == ()

    async def test_hostile_text_is_kept(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 0)
        turn = replace(sample_turn(0), response=Message.assistant(HOSTILE), asked={HOSTILE: [HOSTILE]})
        events: list[Event] = [run.started(), run.submitted(0), start, run.turn(start, turn), run.log(start, HOSTILE)]
        await store.append(events)
        assert await read(store) == [plain(event) for event in events]

    async def test_what_utf8_cannot_carry_is_replaced(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 0)
        end = replace(run.fail(start), failure=Failure(Boundary.TOOL, "cut \ud83d"))
        log = replace(run.log(start, "\ud83d\ude42"), fields={"n": 10**30, "object": store})
        await store.append([run.started(), run.submitted(0), start, log, end])
        *_, log_read, end_read = [event async for event in store.events(RUN)]
        assert isinstance(log_read, LogRecorded)
        assert (log_read.message, log_read.fields) == ("🙂", {"n": str(10**30), "object": repr(store)})
        assert plain(end_read) == plain(replace(end, failure=Failure(Boundary.TOOL, "cut \ufffd")))
        assert (await summary(store, start.rollout_id)).failure_message == "cut \ufffd"

    async def test_what_is_no_data_is_refused(self, store: TraceStore) -> None:
        event = RunStarted(RUN, 1.0, 7, {"engine": object()})
        with pytest.raises(StoreError, match="run_started event can't be stored"):
            await store.append([event])
        with pytest.raises(StoreError):
            await store.append([replace(event, seed=2**70, settings={})])
        assert await store.runs() == ()

    async def test_turn_of_200_000_tokens_is_kept(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 0)
        turn = run.turn(start, sample_turn(0, delta=100_000, output=200_000))
        await store.append([run.started(), run.submitted(0), start, turn])
        assert (await read(store))[-1] == plain(turn)
        assert (await summary(store, start.rollout_id)).sampled_tokens == 200_000

    async def test_a_picture_is_kept_once_and_comes_back_with_every_event_that_shows_it(
        self, store: TraceStore
    ) -> None:
        file = FileBytes(b"a picture's file " * 1_000)
        picture = Image(sha256(file).hexdigest(), "image/png", 4, 4, 2, file)
        assert await store.file(picture.sha256) is None
        run = SampleRun(RUN)
        start, seen = run.start(0, 0), replace(Message.user("Look."), images=(picture,))
        turn = replace(sample_turn(0), messages=(seen,), images=(PromptImage(picture, 0, 2),))
        step = run.step(start)
        step = replace(step, step=replace(step.step, observation=(seen,)))
        await store.append([run.started(), run.submitted(0), start, run.turn(start, turn)])
        await store.append([step, run.turn(start, replace(turn, index=1))])
        assert await store.file(picture.sha256) == file
        shown = [image async for event in store.events(RUN, files=True) for image in filed_in(event)]
        assert [(image, image.data) for image in shown] == [(picture, file)] * 5
        assert not [image.data async for event in store.events(RUN) for image in filed_in(event) if image.data]

    async def test_files_about_the_tokens_of_a_turn_come_back_with_it(self, store: TraceStore) -> None:
        mask = SamplingMask.of([[id, 7] for id in sample_turn(0).output_ids.tolist()])
        experts = np.arange(24, dtype=np.uint8).reshape(12, 2, 1)
        files = (TokenFile.of_mask(mask, 4), TokenFile.of_experts(experts, 0))
        run = SampleRun(RUN)
        start = run.start(0, 0)
        told = run.turn(start, replace(sample_turn(0), files=files))
        await store.append([run.started(), run.submitted(0), start, told])
        (turn,) = [event.turn async for event in store.events(RUN, files=True) if isinstance(event, TurnRecorded)]
        assert turn.files == files
        assert [file.data for file in turn.files] == [file.data for file in files]
        assert turn.files[1].experts().tolist() == experts.tolist()
        assert await store.file(files[0].sha256) == files[0].data

    async def test_a_picture_whose_file_never_came_stays_without(self, store: TraceStore) -> None:
        run, picture = SampleRun(RUN), Image("6" * 64, "image/png", 4, 4)
        start = run.start(0, 0)
        turn = replace(sample_turn(0), messages=(replace(Message.user("Look."), images=(picture,)),))
        await store.append([run.started(), run.submitted(0), start, run.turn(start, turn)])
        assert [image.data async for event in store.events(RUN, files=True) for image in filed_in(event)] == [b""]
        assert await store.file(picture.sha256) is None
