"""SglangEngine over a double of its server, which keeps to the schema of SGLang's source."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envhub.contracts.engine import Model, ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.engines.over_http import engine as http_engine
from envhub.engines.sglang import MODEL_INFO, load
from envhub.errors import EngineFault, UsageError
from envhub.testing.engine_suite import ServedEngineSuite, collect, ids_of, listening, request_of, versions_of
from tests.engines.server_double import CONTEXT, Json, opened
from tests.engines.sglang_double import SglangDouble

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_engine, "HELD_S", 0.02)


@pytest.fixture
def double() -> SglangDouble:
    return SglangDouble()


@pytest.fixture
async def model(double: SglangDouble, tiny_gguf: Path) -> AsyncIterator[Model]:
    async with opened(double, load, tiny_gguf) as model:
        yield model


@pytest.fixture
def engine(model: Model) -> ServedEngine:
    assert isinstance(model.engine, ServedEngine)
    return model.engine


@pytest.mark.parametrize("incremental", [True, False])
class TestConformance(ServedEngineSuite):
    @pytest.fixture
    async def model(self, tiny_gguf: Path, incremental: bool) -> AsyncIterator[Model]:
        double = SglangDouble()
        double.incremental, double.token_s = incremental, 0.003
        async with opened(double, load, tiny_gguf) as model:
            yield model


async def test_sampling_is_asked_for_without_any_change_of_the_distribution(double: SglangDouble, model: Model) -> None:
    request = request_of(model, max_tokens=5, seed=9)
    await collect(model, request)
    path, body = next(asked for asked in double.asked if asked[0] == "/generate")
    assert path == "/generate"
    assert body["input_ids"] == request.prompt_ids.tolist()
    assert (body["stream"], body["return_logprob"]) == (True, True)
    assert body["sampling_params"] == {
        "max_new_tokens": 5,
        "temperature": 1.0,
        "sampling_seed": 9,
        "stop_token_ids": sorted(request.stop_ids),
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


async def test_prompt_and_output_stay_below_the_context_that_the_server_names(model: Model) -> None:
    assert model.engine.context_tokens == CONTEXT - 1


async def test_what_is_given_up_is_aborted_by_its_name(double: SglangDouble, model: Model) -> None:
    double.token_s = 0.01
    generation = model.engine.generate(replace(request_of(model, max_tokens=100), stop_ids=frozenset()))
    await anext(generation)
    await generation.aclose()
    names = {path: body["rid"] for path, body in double.asked if "rid" in body}
    assert names["/abort_request"] == names["/generate"]


async def test_what_ended_is_not_aborted(double: SglangDouble, model: Model) -> None:
    await collect(model, request_of(model, max_tokens=3))
    assert "/abort_request" not in [path for path, _ in double.asked]


async def test_a_pause_that_keeps_lets_the_prefix_be_computed_anew(double: SglangDouble, engine: ServedEngine) -> None:
    await engine.pause(keep=True)
    await engine.pause(keep=False)
    assert [body["mode"] for path, body in double.asked if path == "/pause_generation"] == ["retract", "abort"]


async def test_a_reload_names_its_version_and_without_weights_the_servers_own_path(
    double: SglangDouble, engine: ServedEngine
) -> None:
    await engine.reload("/weights/7", PolicyVersion(7))
    await engine.reload("", PolicyVersion(8))
    updates = [body for path, body in double.asked if path == "/update_weights_from_disk"]
    assert updates == [{"model_path": "/weights/7", "weight_version": str(version)} for version in (7, 8)]


async def test_weights_that_the_server_refuses_are_a_fault(double: SglangDouble, engine: ServedEngine) -> None:
    double.refuses_weights = "no such directory"
    with pytest.raises(EngineFault, match="no such directory") as caught:
        await engine.reload("/nowhere", PolicyVersion(1))
    assert not caught.value.retryable
    assert await engine.version() == 0


async def test_a_server_without_spans_is_asked_for_its_version(double: SglangDouble, model: Model) -> None:
    double.tells_spans, double.token_s = False, 0.005
    chunks = await collect(model, replace(request_of(model, max_tokens=40), stop_ids=frozenset()))
    assert versions_of(chunks) == [(0, 40)]
    assert len(chunks) > 1
    with pytest.raises(EngineFault, match="changed from version 0"), anyio.fail_after(10):
        await _with_a_change(double, model)


async def _with_a_change(double: SglangDouble, model: Model) -> None:
    chunks = 0
    async for _ in model.engine.generate(replace(request_of(model, max_tokens=100), stop_ids=frozenset())):
        chunks += 1
        double.version = "1"


async def test_an_abort_that_is_an_error_is_a_fault(double: SglangDouble, model: Model) -> None:
    aborted = {"type": "abort", "message": "out of memory", "status_code": 503}
    double.spoil = lambda event: {**event, "meta_info": {**event["meta_info"], "finish_reason": aborted}}
    with pytest.raises(EngineFault, match="out of memory") as caught:
        await collect(model, request_of(model, max_tokens=3))
    assert caught.value.retryable


async def test_a_server_that_is_too_old_is_refused(double: SglangDouble, tiny_gguf: Path) -> None:
    double.missing = {MODEL_INFO}
    with pytest.raises(UsageError, match="no SGLang, or too old"):
        async with opened(double, load, tiny_gguf):
            pass


async def test_spans_let_tokens_be_handed_on_at_once(double: SglangDouble, model: Model) -> None:
    double.token_s = 0.005
    async with listening(model, replace(request_of(model, max_tokens=40), stop_ids=frozenset())) as chunks:
        double.version = "2"
    assert [version for version, _ in versions_of(chunks)] == [0, 2]
    assert len(ids_of(chunks)) == 40
    assert [path for path, _ in double.asked].count(MODEL_INFO) == 2  # at the opening, and before the generation


async def test_tokens_that_are_counted_and_not_sent_are_a_fault(double: SglangDouble, model: Model) -> None:
    def drop(event: Json) -> Json:
        return {"output_ids": [], "meta_info": {**event["meta_info"], "output_token_logprobs": []}}

    double.spoil = drop
    with pytest.raises(EngineFault, match="counts 1 new tokens, and sent 0"):
        await collect(model, request_of(model, max_tokens=3))
