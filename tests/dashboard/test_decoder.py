"""Whose tokenizer gives the tokens of a run their text."""

from collections.abc import Mapping, Sequence

import httpx
import pytest

from envhub.contracts.events import RunStarted
from envhub.contracts.ids import RunId
from envhub.dashboard.api import create_app
from envhub.dashboard.decoder import Decoder, Decoders
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import DECODER, MODEL, RUN, SOLVED, decode, recording

pytestmark = pytest.mark.anyio

OTHER = {"engine": "embedded", "weights": "another.gguf"}


async def first_row(store: MemoryTraceStore, decoder: Decoder | None) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(store, decoder))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(f"/api/rollouts/{SOLVED}/rows/0/tokens")


def refuse(ids: Sequence[int]) -> str:
    raise ValueError(f"no token {ids[0]}")


@pytest.mark.parametrize("decoder", [None, Decoder(OTHER, decode), Decoder({}, decode), Decoder(MODEL, refuse)])
async def test_tokens_that_the_server_can_not_decode_have_ids_and_no_text(
    store: MemoryTraceStore, decoder: Decoder | None
):
    response = await first_row(store, decoder)
    window = response.json()
    assert (response.status_code, window["pieces"]) == (200, None)
    assert len(window["ids"]) == window["total"] > 0


async def test_a_decoder_that_fails_leaves_a_line_in_the_log(store: MemoryTraceStore, caplog: pytest.LogCaptureFixture):
    await first_row(store, Decoder(MODEL, refuse))
    [record] = caplog.records
    assert record.getMessage().endswith("as their decoder failed: ValueError: no token 87")


async def test_a_decoder_is_for_the_runs_of_its_model_alone():
    store = MemoryTraceStore()
    settings: dict[str, Mapping[str, object]] = {"same": {"model": MODEL}, "other": {"model": OTHER}, "older": {}}
    await store.append([RunStarted(RunId(name), 1.0, 0, recorded) for name, recorded in settings.items()])
    decoders = Decoders(store, DECODER)
    fitting = {name for name in (*settings, "unknown") if await decoders.of(RunId(name)) is not None}
    assert fitting == {"same"}


class CountingStore(MemoryTraceStore):
    """Counts how often the events of a run are asked for."""

    asked = 0

    def events(self, run_id, rollout_id=None):
        self.asked += rollout_id is None
        return super().events(run_id, rollout_id)


async def test_the_model_of_a_run_is_looked_up_once():
    store = CountingStore()
    await store.append(recording())
    decoders = Decoders(store, DECODER)
    assert [await decoders.of(RUN) for _ in range(3)] == [decode] * 3
    assert store.asked == 1
