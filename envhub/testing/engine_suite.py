"""EngineSuite: what every engine does; ServedEngineSuite: what those do whose weights change while they serve. Subclass
one, override its fixtures, and let pytest collect it."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import count, groupby

import anyio
import numpy as np
import pytest

from envhub.contracts.engine import EngineChunk, EngineRequest, Model, ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish, Sampling
from envhub.errors import EngineFault

DEADLINE_S = 60.0
SILENCE_S = 1.0  # an engine that gives no chunk for that long is taken to be paused
LONG = 120  # tokens of a generation that is met while it runs
PROMPT = "Once upon a time there was a fox who told long stories. One day it said:"
_numbers = count()


def request_of(model: Model, text: str = PROMPT, *, max_tokens: int = 24, seed: int = 7) -> EngineRequest:
    """A request to continue `text` at temperature 1."""
    prompt = np.array(model.tokenizer.encode(text), np.int32)
    sampling = Sampling(max_tokens=max_tokens, seed=seed)
    return EngineRequest(f"request-{next(_numbers)}", prompt, sampling, model.tokenizer.stop_ids)


async def collect(model: Model, request: EngineRequest) -> list[EngineChunk]:
    """All chunks of a request."""
    with anyio.fail_after(DEADLINE_S):
        return [chunk async for chunk in model.engine.generate(request)]


def ids_of(chunks: list[EngineChunk]) -> list[int]:
    return [index for chunk in chunks for index in chunk.ids.tolist()]


def versions_of(chunks: list[EngineChunk]) -> list[tuple[PolicyVersion, int]]:
    """The versions in order, with their tokens in a row."""
    tokens = [(chunk.policy_version, len(chunk.ids)) for chunk in chunks if len(chunk.ids)]
    return [(version, sum(length for _, length in run)) for version, run in groupby(tokens, lambda item: item[0])]


@asynccontextmanager
async def listening(model: Model, request: EngineRequest) -> AsyncIterator[list[EngineChunk]]:
    """The chunks of a generation that runs, as they come; on leaving, all of them."""
    chunks: list[EngineChunk] = []
    begun = anyio.Event()

    async def listen() -> None:
        async for chunk in model.engine.generate(request):
            chunks.append(chunk)
            begun.set()

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await begun.wait()
            yield chunks


async def silence(chunks: list[EngineChunk]) -> None:
    """Returns once no chunk came for SILENCE_S."""
    seen = -1
    while seen < len(chunks):
        seen = len(chunks)
        await anyio.sleep(SILENCE_S)


@pytest.mark.anyio
class EngineSuite:
    """The model under test must have more to say on the prompt of `request_of` than a few tokens."""

    @pytest.fixture
    def model(self) -> Model:
        raise NotImplementedError("override the fixture `model` with the model under test")

    @pytest.fixture
    def endless(self, model: Model) -> EngineRequest:
        """A request that nothing ends soon."""
        return replace(request_of(model, max_tokens=1000), stop_ids=frozenset())

    @pytest.fixture(autouse=True)
    async def closed(self, model: Model) -> AsyncIterator[None]:
        yield
        await model.engine.close()

    async def test_each_id_has_a_logprob_that_is_finite_and_not_positive(self, model: Model) -> None:
        for chunk in await collect(model, request_of(model)):
            assert chunk.ids.dtype == np.int32
            assert chunk.logprobs.dtype == np.float32
            assert chunk.ids.shape == chunk.logprobs.shape == (len(chunk.ids),)
            assert np.isfinite(chunk.logprobs).all()
            assert (chunk.logprobs <= 0).all()

    async def test_only_the_last_chunk_has_a_finish(self, model: Model) -> None:
        *others, last = await collect(model, request_of(model))
        assert last.finish is not None
        assert all(chunk.finish is None and len(chunk.ids) for chunk in others)

    async def test_max_tokens_end_the_output(self, model: Model) -> None:
        chunks = await collect(model, request_of(model, max_tokens=2))
        assert len(ids_of(chunks)) == 2
        assert chunks[-1].finish is Finish.LENGTH

    async def test_a_stop_id_ends_the_output_and_is_part_of_it(self, model: Model) -> None:
        request = request_of(model)
        ids = ids_of(await collect(model, request))
        stop = ids[len(ids) // 2]
        stopping = EngineRequest("stopping", request.prompt_ids, request.sampling, frozenset({stop}))
        chunks = await collect(model, stopping)
        *before, last = ids_of(chunks)
        assert last == stop
        assert stop not in before
        assert chunks[-1].finish is Finish.STOP

    async def test_the_same_seed_samples_the_same_ids(self, model: Model) -> None:
        first, second = [await collect(model, request_of(model, seed=3)) for _ in range(2)]
        assert ids_of(first) == ids_of(second)

    async def test_truncated_sampling_tells_what_was_left_or_is_refused(self, model: Model) -> None:
        request = request_of(model)
        request = replace(request, sampling=replace(request.sampling, top_k=2))
        try:
            chunks = await collect(model, request)
        except EngineFault as fault:
            assert not fault.retryable
            assert "top_k" in fault.message
            return
        masks = [chunk.mask for chunk in chunks if len(chunk.ids)]
        allowed = [mask.at(token) for mask in masks if mask for token in range(len(mask))]
        assert len(allowed) == len(ids_of(chunks)) > 0
        assert all(len(ids) == 2 and id in ids for ids, id in zip(allowed, ids_of(chunks), strict=True))

    async def test_a_prompt_that_fills_the_context_is_a_fault_that_no_retry_mends(self, model: Model) -> None:
        prompt = np.zeros(model.engine.context_tokens, np.int32)
        with pytest.raises(EngineFault) as caught:
            await collect(model, EngineRequest("long", prompt, Sampling(seed=1), model.tokenizer.stop_ids))
        assert not caught.value.retryable

    async def test_a_full_context_ends_the_output(self, model: Model) -> None:
        request = request_of(model, max_tokens=1000)
        prompt = np.resize(request.prompt_ids, model.engine.context_tokens - 3)
        chunks = await collect(model, EngineRequest("near", prompt, request.sampling, request.stop_ids))
        assert len(ids_of(chunks)) == 3
        assert chunks[-1].finish is Finish.CONTEXT

    async def test_forty_requests_at_once_are_all_answered(self, model: Model) -> None:
        answers: dict[int, list[EngineChunk]] = {}

        async def ask(seed: int) -> None:
            answers[seed] = await collect(model, request_of(model, seed=seed, max_tokens=4))

        async with anyio.create_task_group() as tasks:
            for seed in range(40):
                tasks.start_soon(ask, seed)
        assert all(answers[seed][-1].finish is not None for seed in range(40))

    async def test_closing_iterators_early_frees_their_slots(self, model: Model) -> None:
        for seed in range(40):
            async with aclosing(model.engine.generate(request_of(model, seed=seed, max_tokens=1000))) as chunks:
                await anext(chunks)
        assert await collect(model, request_of(model, max_tokens=4))

    async def test_cancelling_a_consumer_leaves_the_others_alone(self, model: Model) -> None:
        answers: list[list[EngineChunk]] = []

        async def ask() -> None:
            answers.append(await collect(model, request_of(model)))

        async def give_up(scope: anyio.CancelScope) -> None:
            with scope:
                async for _ in model.engine.generate(request_of(model, seed=8)):
                    scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(give_up, anyio.CancelScope())
        assert answers[0][-1].finish is not None

    async def test_closing_ends_running_generations_with_a_fault(self, model: Model, endless: EngineRequest) -> None:
        chunks = model.engine.generate(endless)
        await anext(chunks)
        await model.engine.close()
        with pytest.raises(EngineFault), anyio.fail_after(DEADLINE_S):
            async for _ in chunks:
                """What had come before."""

    async def test_a_closed_engine_generates_nothing_and_closes_again(self, model: Model) -> None:
        await model.engine.close()
        await model.engine.close()
        with pytest.raises(EngineFault):
            await collect(model, request_of(model))


class ServedEngineSuite(EngineSuite):
    """The model under test must be able to say LONG tokens, and to take `weights` again and again."""

    @pytest.fixture
    def weights(self) -> str:
        """What reload is given."""
        return ""

    @pytest.fixture
    def engine(self, model: Model) -> ServedEngine:
        assert isinstance(model.engine, ServedEngine)
        return model.engine

    @pytest.fixture
    def long(self, model: Model) -> EngineRequest:
        """A request that only its length ends."""
        return replace(request_of(model, max_tokens=LONG), stop_ids=frozenset())

    async def test_a_server_that_runs_is_healthy(self, engine: ServedEngine) -> None:
        await engine.health()

    async def test_a_pause_that_keeps_holds_what_runs(
        self, model: Model, engine: ServedEngine, long: EngineRequest
    ) -> None:
        undisturbed = ids_of(await collect(model, long))
        async with listening(model, long) as chunks:
            for _ in range(2):
                await engine.pause(keep=True)
            await silence(chunks)
            assert chunks[-1].finish is None
            for _ in range(2):
                await engine.resume()
        assert ids_of(chunks) == undisturbed
        assert chunks[-1].finish is Finish.LENGTH

    async def test_a_pause_that_aborts_ends_what_runs_with_what_it_has(
        self, model: Model, engine: ServedEngine, long: EngineRequest
    ) -> None:
        async with listening(model, long) as chunks:
            await engine.pause(keep=False)
        assert chunks[-1].finish is Finish.ABORT
        assert 0 < len(ids_of(chunks)) < LONG
        await engine.resume()
        assert await collect(model, request_of(model, max_tokens=4))

    async def test_weights_that_change_under_a_generation_divide_its_tokens(
        self, model: Model, engine: ServedEngine, long: EngineRequest, weights: str
    ) -> None:
        old = await engine.version()
        new = PolicyVersion(old + 1)
        async with listening(model, long) as chunks:
            await engine.pause(keep=True)
            await engine.reload(weights, new)
            assert await engine.version() == new
            await engine.resume()
        (first, before), (second, after) = versions_of(chunks)
        assert (first, second) == (old, new)
        assert before + after == LONG
        assert versions_of(await collect(model, request_of(model, max_tokens=4)))[0][0] == new

    async def test_a_closed_engine_takes_no_orders(self, engine: ServedEngine) -> None:
        await engine.close()
        with pytest.raises(EngineFault):
            await engine.health()
        with pytest.raises(EngineFault):
            await engine.pause(keep=True)
