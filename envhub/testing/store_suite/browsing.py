"""Looking into a store: lists of millions, single groups, and search."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from envhub.contracts.events import RolloutEnded
from envhub.contracts.ids import GroupId, RolloutId
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.store import BrowsableStore, RolloutFacts, RolloutQuery
from envhub.errors import UsageError
from envhub.store.sealed import stored
from envhub.testing.store_suite.base import Base
from envhub.testing.store_suite.tools import RUN
from envhub.testing.traces import SampleRun, plain, sample_events, sample_turn

MADE = ("place", "is_root")  # facts that are not in a summary


class Browsing(Base):
    async def test_facts_are_those_of_the_summaries_in_order_and_in_parts(self, store: BrowsableStore) -> None:
        await store.append(sample_events())
        facts: list[RolloutFacts] = []
        while part := await store.facts(facts[-1].place if facts else 0, 5):
            assert len(part) <= 5
            facts += part
        summaries = await store.rollouts_at([fact.place for fact in facts])
        assert len(facts) == (await store.rollouts(RolloutQuery())).total == len(set(summaries))
        for fact, summary in zip(facts, summaries, strict=True):
            for name in set(RolloutFacts._fields).difference(MADE):
                assert getattr(fact, name) == getattr(summary, name)
            assert fact.is_root == (summary.parent is None)

    async def test_only_what_has_ended_is_told_of_places(self, store: BrowsableStore) -> None:
        run = SampleRun(RUN)
        one, two = run.start(0, 0), run.start(0, 1)
        await store.append([run.started(), run.submitted(0), one, two, run.end(two)])
        (ended,) = await store.ended_facts([1, 2])
        assert (ended.place, ended.status, ended.reward) == (2, "completed", 1.0)

    async def test_rollouts_come_in_the_order_of_the_places_that_are_asked_for(self, store: BrowsableStore) -> None:
        await store.append(sample_events())
        found = await store.rollouts_at([3, 1, 1_000])
        assert [rollout.rollout_id for rollout in found] == ["sample-0-1-0.0", "sample-0-0-0"]

    async def test_log_is_the_events_as_they_are_kept_from_any_place_on(self, store: BrowsableStore) -> None:
        await store.append(sample_events("other"))
        await store.append(sample_events())
        whole = await store.log(RUN, 0, 1_000)
        assert [(event.kind, event.payload) for event in whole] == [stored(event) for event in sample_events()]
        assert await store.log(RUN, whole[9].place, 3) == whole[10:13]

    async def test_events_of_some_rollouts_or_of_some_kinds_are_no_others(self, store: BrowsableStore) -> None:
        await store.append(sample_events())
        ids = [RolloutId("sample-0-0-0"), RolloutId("sample-0-1-0")]
        both = await store.events_of(RUN, ids)
        logged = [event async for event in store.events(RUN) if getattr(event, "rollout_id", None) in ids]
        assert [plain(event) for event in both] == [plain(event) for event in logged]
        ends = await store.events_of(RUN, ids, {RolloutEnded})
        assert _names(ends) == ["RolloutEnded", "RolloutEnded"]

    async def test_events_of_a_group_and_of_a_run_are_theirs_alone(self, store: BrowsableStore) -> None:
        await store.append(sample_events())
        leases = ["GroupLeased", "GroupReturned", "GroupLeased", "GroupAcked"]
        events = await store.group_events(GroupId("sample-0"))
        assert _names(events) == ["GroupSubmitted", "GroupClosed", *leases]
        assert _names(await store.run_events(RUN)) == ["RunStarted", "VersionAnnounced"]
        assert await store.group(GroupId("sample-0")) == (await store.groups(RUN))[0]
        assert await store.group(GroupId("nobody")) is None

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("straße", {1}),
            ("STRASSE", set()),
            ("quick fox", {1, 2}),
            ('"quick brown"', {1}),
            ("qui", {1, 2}),
            ("brow wnn", set()),
            ("drop-table", {2}),
            ("5", {2}),
        ],
    )
    async def test_text_is_found_by_words_beginnings_and_phrases(
        self, store: BrowsableStore, text: str, found: set[int]
    ) -> None:
        run = SampleRun(RUN)
        one, two = run.start(0, 0), run.start(0, 1)
        first = replace(sample_turn(0), response=Message.assistant("The quick brown fox of Straße"))
        call = ToolCall("1", "drop_table", {"rows": [5]})
        second = replace(sample_turn(0), response=Message.assistant("quick is the fox", (call,)))
        await store.append([run.started(), run.submitted(0), one, two])
        await store.append([run.turn(one, first), run.turn(two, second)])
        matches = await store.find_text(text)
        assert set(matches.places) == found
        assert (matches.indexed, matches.of) == (6, 6)

    async def test_text_that_is_said_later_is_found_later(self, store: BrowsableStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 0)
        await store.append([run.started(), run.submitted(0), start])
        assert not (await store.find_text("eureka")).places
        said = replace(sample_turn(0), messages=(Message.user("eureka"),))
        await store.append([run.turn(start, said)])
        assert list((await store.find_text("eureka")).places) == [1]

    @pytest.mark.parametrize("text", ["", " ", '"', "!?", '""'])
    async def test_text_without_a_word_is_refused(self, store: BrowsableStore, text: str) -> None:
        with pytest.raises(UsageError, match="no word"):
            await store.find_text(text)


def _names(events: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in events]
