"""Events whose bytes are at the place of payloads, and what fetches them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anyio import to_thread

from envhub.contracts.events import Event
from envhub.contracts.store import StoredEvent
from envhub.errors import StoreError
from envhub.store.codec import decode
from envhub.store.payloads.payloads import Payloads
from envhub.store.payloads.reference import Reference


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An event that is to be fetched."""

    kind: str
    reference: Reference


def read(kind: str, payload: bytes) -> Event | Elsewhere:
    """The event of what the log keeps of it, or where that is."""
    reference = Reference.read(payload)
    return decode(kind, payload) if reference is None else Elsewhere(kind, reference)


class Opener:
    """Of the events of one database."""

    def __init__(self, payloads: Payloads | None, name: str) -> None:
        self._payloads = payloads
        self._name = name

    async def all(self, events: Sequence[Event | Elsewhere]) -> list[Event]:
        """The events, in order.

        Raises:
            StoreError: one can't be fetched.
        """
        missing = [event.reference for event in events if isinstance(event, Elsewhere)]
        if not missing:
            return list(events)  # type: ignore[arg-type]  # none of them is elsewhere
        found = await self._fetched(missing)

        def opened() -> list[Event]:
            return [
                decode(event.kind, found[event.reference.sha256]) if isinstance(event, Elsewhere) else event
                for event in events
            ]

        return await to_thread.run_sync(opened)

    async def whole_log(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """The same, whole.

        Raises:
            StoreError: one can't be fetched.
        """
        references = {event.place: ref for event in events if (ref := Reference.read(event.payload))}
        if not references:
            return events
        found = await self._fetched(references.values())
        return [
            event._replace(payload=found[references[event.place].sha256]) if event.place in references else event
            for event in events
        ]

    def whole(self, payload: bytes) -> bytes:
        """What the log keeps of an event, whole; for who may block.

        Raises:
            StoreError: it can't be fetched.
        """
        reference = Reference.read(payload)
        return payload if reference is None else self._place().fetch(reference.sha256)

    async def _fetched(self, references: Iterable[Reference]) -> dict[str, bytes]:
        return await self._place().get({reference.sha256 for reference in references})

    def _place(self) -> Payloads:
        if self._payloads is None:
            raise StoreError(f"database '{self._name}' has events elsewhere, and does not say where; bring back a copy")
        return self._payloads
