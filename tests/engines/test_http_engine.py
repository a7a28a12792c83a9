"""What engines on servers make of servers that fail or answer nonsense."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import TypeAlias

import anyio
import pytest

from envhub.contracts.engine import EngineOptions, EngineRequest, Model, PromptImage
from envhub.contracts.messages import Image
from envhub.engines import sglang, vllm
from envhub.errors import EngineFault
from envhub.registry import EngineFactory
from envhub.testing.engine_suite import collect, ids_of, request_of
from tests.engines.server_double import Json, ServerDouble, opened
from tests.engines.sglang_double import SglangDouble
from tests.engines.vllm_double import VllmDouble

pytestmark = pytest.mark.anyio


class CompletionsDouble(VllmDouble):
    """As started without --enable-scale-out."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = {vllm.GENERATE}


SERVERS: dict[type[ServerDouble], EngineFactory] = {
    VllmDouble: vllm.load,
    CompletionsDouble: vllm.load,
    SglangDouble: sglang.load,
}
PNG = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 2, 1) + bytes(5)  # as much of one as is looked at here
Spoil: TypeAlias = Callable[[Json], Json | bytes]


@pytest.fixture(params=SERVERS, ids=lambda server: server.__name__)
def double(request: pytest.FixtureRequest) -> ServerDouble:
    server: type[ServerDouble] = request.param
    return server()


@pytest.fixture
async def model(double: ServerDouble, tiny_gguf: Path) -> AsyncIterator[Model]:
    async with opened(double, SERVERS[type(double)], tiny_gguf) as model:
        yield model


def changed(event: Json, ids: list[object] | None = None, logprobs: list[object] | None = None) -> Json:
    """The event with other ids, or with other logprobs of its ids, in any server's language."""
    event = deepcopy(event)
    if "meta_info" in event:
        meta = event["meta_info"]
        scored = [score[1] for score in meta["output_token_logprobs"]]
        if logprobs is not None:
            meta["output_token_logprobs"] = [
                [value, index, None] for value, index in zip(logprobs, scored, strict=False)
            ]
        if ids is not None:
            event["output_ids"] = ids
        return event
    choice = event["choices"][0]
    if ids is not None:
        choice["token_ids"] = ids
    if logprobs is not None and "content" in choice["logprobs"]:
        content = choice["logprobs"]["content"]
        kept = [{**score, "logprob": value} for score, value in zip(content, logprobs, strict=False)]
        choice["logprobs"]["content"] = kept
    elif logprobs is not None:
        choice["logprobs"] = {"tokens": choice["logprobs"]["tokens"][: len(logprobs)], "token_logprobs": logprobs}
    return event


def finished(event: Json, reason: str | None) -> Json:
    event = deepcopy(event)
    if "meta_info" in event:
        event["meta_info"]["finish_reason"] = reason and {"type": reason}
    else:
        event["choices"][0]["finish_reason"] = reason
    return event


UNFIT: dict[str, tuple[Spoil, str]] = {
    "fewer logprobs than tokens": (lambda event: changed(event, logprobs=[]), "0 logprobs for 1 tokens"),
    "logprobs of other ids": (lambda event: changed(event, ids=[7]), "for the tokens [7]"),
    "a logprob of null": (lambda event: changed(event, logprobs=[None]), "the logprob None"),
    "a logprob of NaN": (lambda event: json.dumps(changed(event, logprobs=[float("nan")])).encode(), "can't be read"),
    "a logprob above 0": (lambda event: changed(event, logprobs=[0.5]), "the logprob 0.5"),
    "the mark of an absent logprob": (lambda event: changed(event, logprobs=[-9999.0]), "the logprob -9999.0"),
    "an id of text": (lambda event: changed(event, ids=["x"]), "can't be read"),
    "no JSON": (lambda event: b"{oops", "can't be read"),
    "an error": (lambda event: {"error": {"message": "CUDA is sad", "code": 500}}, "CUDA is sad"),
    "an unknown end": (lambda event: finished(event, "boredom"), "ended with 'boredom'"),
    "no end": (lambda event: finished(event, None), "without a finish reason"),
    "more after the end": (lambda event: finished(event, "stop"), "went on after its finish reason"),
}


@pytest.mark.parametrize("case", UNFIT)
async def test_an_answer_that_may_not_be_recorded_is_a_fault_that_a_retry_may_mend(
    double: ServerDouble, model: Model, case: str
) -> None:
    double.spoil, says = UNFIT[case]
    with pytest.raises(EngineFault) as caught:
        await collect(model, request_of(model, max_tokens=3))
    assert says in str(caught.value)
    assert caught.value.retryable
    double.spoil = lambda event: event
    assert len(ids_of(await collect(model, request_of(model, max_tokens=3)))) == 3


async def test_spans_that_do_not_cover_the_tokens_are_a_fault(tiny_gguf: Path) -> None:
    for spans in ([], [[0, 2]], [[1, 3]], [[0, 1], [2, 3]], [[0, 4]]):
        double = VllmDouble()
        told = [{"version": "0", "start": start, "end": end} for start, end in spans]

        def spoil(event: Json, told: list[Json] = told) -> Json:
            choice = event["choices"][0]
            return {"choices": [{**choice, "weight_versions": told if choice["finish_reason"] else None}]}

        double.spoil = spoil
        async with opened(double, vllm.load, tiny_gguf) as model:
            with pytest.raises(EngineFault, match="spans"):
                await collect(model, request_of(model, max_tokens=3))


async def test_a_server_that_dies_in_the_midst_is_a_fault(double: ServerDouble, model: Model) -> None:
    double.token_s, double.dies_after = 0.001, 5
    with pytest.raises(EngineFault) as caught:
        await collect(model, request_of(model, max_tokens=30))
    assert caught.value.retryable


async def test_a_stream_that_ends_without_its_end_mark_is_a_fault(tiny_gguf: Path) -> None:
    double = VllmDouble()
    double.ends_properly = False
    async with opened(double, vllm.load, tiny_gguf) as model:
        with pytest.raises(EngineFault, match="broke off its answer"):
            await collect(model, request_of(model, max_tokens=3))


async def test_a_server_that_is_gone_is_a_fault(double: ServerDouble, tiny_gguf: Path) -> None:
    load = SERVERS[type(double)]
    async with double.serving() as url:
        model = await anyio.to_thread.run_sync(load, EngineOptions(url=url, tokenizer=str(tiny_gguf)))
    with pytest.raises(EngineFault, match="see that it runs") as caught:
        await collect(model, request_of(model))
    assert caught.value.retryable
    with pytest.raises(EngineFault, match="see that it runs"):
        await model.engine.health()
    await model.engine.close()


async def test_what_is_given_up_is_freed_on_the_server(double: ServerDouble, model: Model) -> None:
    double.token_s = 0.01
    async with aclosing(model.engine.generate(replace(request_of(model, max_tokens=100), stop_ids=frozenset()))) as it:
        await anext(it)
        assert double.running == 1
    with anyio.fail_after(30):
        await double.idle()


async def test_logprobs_follow_a_temperature_that_the_server_applies(double: ServerDouble, model: Model) -> None:
    request = request_of(model, max_tokens=4)
    warm = replace(request, sampling=replace(request.sampling, temperature=0.7))
    for _ in range(2):
        assert len(ids_of(await collect(model, warm))) == 4
    assert double.generations == 4  # the two, after two that showed which distribution the logprobs are of


async def test_logprobs_of_another_distribution_are_refused_where_it_matters(
    double: ServerDouble, model: Model
) -> None:
    double.raw_logprobs = True
    request = request_of(model, max_tokens=4)
    with pytest.raises(EngineFault, match=r"the temperature is 0\.7.*before temperature") as caught:
        await collect(model, replace(request, sampling=replace(request.sampling, temperature=0.7)))
    assert not caught.value.retryable
    assert await collect(model, request)
    greedy = await collect(model, replace(request, sampling=replace(request.sampling, temperature=0.0)))
    assert all((chunk.logprobs == 0).all() for chunk in greedy)


def shown(model: Model, image: Image) -> EngineRequest:
    """A request whose second token is the placeholder of that image."""
    return replace(request_of(model, max_tokens=3), images=(PromptImage(image, 1, 2),))


async def test_images_go_to_the_server_as_files_beside_the_ids_of_their_placeholders(tiny_gguf: Path) -> None:
    double, image = VllmDouble(), Image.of(PNG)
    async with opened(double, vllm.load, tiny_gguf) as model:
        request = shown(model, image)
        assert len(ids_of(await collect(model, request))) == 3
    body = double.asked[-1][1]
    assert body["token_ids"] == request.prompt_ids.tolist()
    ((kind, url, uuid),) = [part.values() for part in body["content_parts"]]
    assert (kind, uuid) == ("image_url", image.sha256)
    head, _, file = url.partition(",")
    assert (head, b64decode(file)) == ("data:image/png;base64", image.data)


@pytest.mark.parametrize("make", [CompletionsDouble, SglangDouble])
async def test_images_are_refused_where_the_endpoint_takes_none(make: type[ServerDouble], tiny_gguf: Path) -> None:
    load = sglang.load if make is SglangDouble else vllm.load
    async with opened(make(), load, tiny_gguf) as model:
        with pytest.raises(EngineFault, match="1 images; this engine takes text alone") as caught:
            await collect(model, shown(model, Image.of(PNG)))
        assert not caught.value.retryable


async def test_an_image_without_its_file_is_refused(tiny_gguf: Path) -> None:
    async with opened(VllmDouble(), vllm.load, tiny_gguf) as model:
        with pytest.raises(EngineFault, match="without its file") as caught:
            await collect(model, shown(model, Image("0" * 64, "image/png", 1, 1)))
        assert not caught.value.retryable
