"""The files of events: an event names each by its hash, of a picture or about tokens, and stores keep each once."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from envhub.contracts.events import EpisodeRecorded, Event, GroupSubmitted, RolloutStarted, StepRecorded, TurnRecorded
from envhub.contracts.files import FileBytes
from envhub.contracts.messages import Image
from envhub.contracts.token_file import TokenFile
from envhub.store.sealed import Sealed

Filed: TypeAlias = Image | TokenFile


def filed_in(event: Event) -> Iterator[Filed]:
    """All that it names a file for."""
    match event:
        case TurnRecorded(turn=turn):
            messages, shown = turn.messages, turn.images
            yield from turn.files
        case StepRecorded(step=step):
            messages, shown = step.observation, ()
        case RolloutStarted(request=request):
            messages, shown = request.task.prompt, ()
        case GroupSubmitted(request=group):
            messages, shown = group.rollout.task.prompt, ()
        case EpisodeRecorded(episode=episode):
            messages, shown = (*episode.task.prompt, *episode.messages), ()
        case _:
            return
    for message in messages:
        yield from message.images
    for placed in shown:
        yield placed.image


def files_of(events: Iterable[Event]) -> dict[str, bytes]:
    """By hash, the files that come with the events."""
    events = (event for event in events if not isinstance(event, Sealed))  # which come without
    return {filed.sha256: filed.data for event in events for filed in filed_in(event) if filed.data}


def without_files(events: Iterable[Event]) -> set[str]:
    """The hashes of files that the events come without."""
    return {filed.sha256 for event in events for filed in filed_in(event) if not filed.data}


def fill(event: Event, files: Mapping[str, bytes]) -> Event:
    """The event, which was decoded just now and is nobody else's yet, with its files."""
    for filed in filed_in(event):
        if filed.sha256 in files:
            object.__setattr__(filed, "data", FileBytes(files[filed.sha256]))
    return event
