"""Batches of events as a store keeps them: the bytes of each, and apart from them the files that they refer to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.store.files import files_of
from envhub.store.payloads.reference import Reference
from envhub.store.sealed import stored

LARGE_BYTES = 256 * 1024  # what has more goes to the place of payloads, where there is one

Record: TypeAlias = tuple[str, bytes]  # kind and payload


@dataclass(frozen=True, slots=True)
class Batch:
    """Events, ready to be written."""

    events: Sequence[Event]
    records: Sequence[Record]  # of each event; a Reference where its payload is large
    files: Mapping[str, bytes]  # by hash, those for the database
    large: Mapping[str, bytes]  # files and payloads that are not
    uses: frozenset[tuple[RunId, str]]  # of both

    @classmethod
    def of(cls, events: Sequence[Event], *, apart: bool) -> "Batch":
        """With large payloads apart, or all in the database.

        Raises:
            StoreError: an event holds what is no data.
        """
        files, uses = _files(events)
        records = [stored(event) for event in events]
        if not apart:
            return cls(events, records, files, {}, frozenset(uses))
        large = {hash: data for hash, data in files.items() if len(data) > LARGE_BYTES}
        for place, (kind, payload) in enumerate(records):
            if len(payload) > LARGE_BYTES:
                reference = Reference(sha256(payload).hexdigest(), len(payload))
                large[reference.sha256] = payload
                uses.add((events[place].run_id, reference.sha256))
                records[place] = kind, reference.as_bytes()
        small = {hash: data for hash, data in files.items() if hash not in large}
        return cls(events, records, small, large, frozenset(uses))


def _files(events: Sequence[Event]) -> tuple[dict[str, bytes], set[tuple[RunId, str]]]:
    """The files of all, and which run uses which."""
    files: dict[str, bytes] = {}
    uses: set[tuple[RunId, str]] = set()
    for run_id, of_run in groupby(events, attrgetter("run_id")):
        found = files_of(of_run)
        files |= found
        uses |= {(run_id, hash) for hash in found}
    return files, uses
