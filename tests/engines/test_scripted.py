import anyio
import numpy as np
import pytest

from envhub.contracts.engine import EngineOptions, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish, Sampling
from envhub.engines.scripted import Script, ScriptedEngine, ScriptInput, add, load
from envhub.errors import EngineFault, Fault, UsageError
from envhub.testing.engine_suite import EngineSuite, collect, ids_of, request_of
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer

pytestmark = pytest.mark.anyio


def model_of(script: Script, *, latency_s: float = 0.0, context_tokens: int = 8192) -> Model:
    tokenizer = ByteTokenizer()
    engine = ScriptedEngine(script, tokenizer, latency_s=latency_s, context_tokens=context_tokens)
    return Model("scripted", engine, tokenizer, CHATML_TEMPLATE)


def story(asked: ScriptInput) -> str:
    return f"the fox said {asked.seed} times: " + "run, " * 300


class TestConformance(EngineSuite):
    @pytest.fixture
    def model(self) -> Model:
        return model_of(story)

    @pytest.fixture
    def endless(self, model: Model) -> EngineRequest:
        """A script's answer ends with a stop id."""
        return request_of(model, max_tokens=1000)


async def test_the_script_sees_the_prompt_with_its_control_tokens() -> None:
    seen: list[ScriptInput] = []
    model = model_of(lambda asked: seen.append(asked) or "ok")
    prompt = np.array([256, *b"user\nhi", 257], np.int32)
    chunks = await collect(model, EngineRequest("r", prompt, Sampling(seed=4), frozenset({257})))
    assert seen == [ScriptInput("<|im_start|>user\nhi<|im_end|>", 4)]
    assert ids_of(chunks) == [*b"ok", 257]
    assert chunks[-1].finish is Finish.STOP


async def test_logprobs_depend_on_seed_and_position_alone() -> None:
    async def logprobs(text: str, seed: int) -> list[float]:
        chunks = await collect(model_of(lambda _: text), request_of(model_of(story), seed=seed))
        return [value for chunk in chunks for value in chunk.logprobs.tolist()]

    assert (await logprobs("abcdefghijkl", 1))[:5] == (await logprobs("mnopq", 1))[:5]
    assert await logprobs("mnopq", 1) != await logprobs("mnopq", 2)


async def test_a_chunk_carries_the_policy_version_of_its_moment() -> None:
    model = model_of(story)
    chunks = model.engine.generate(request_of(model))
    first = await anext(chunks)
    model.engine.policy_version = PolicyVersion(3)
    second = await anext(chunks)
    assert (first.policy_version, second.policy_version) == (0, 3)


async def test_closing_wakes_a_generation_that_takes_its_time() -> None:
    model = model_of(story, latency_s=3600.0)

    async def ask() -> None:
        with pytest.raises(EngineFault):
            await collect(model, request_of(model))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await model.engine.close()


async def test_a_script_that_raises_fails_its_request() -> None:
    def broken(_: ScriptInput) -> str:
        raise ZeroDivisionError("by design")

    model = model_of(broken)
    with pytest.raises(Fault, match="ZeroDivisionError: by design") as caught:
        await collect(model, request_of(model))
    assert caught.value.boundary == "engine"


async def test_a_request_without_stop_ids_is_a_fault() -> None:
    model = model_of(story)
    with pytest.raises(EngineFault, match="stop ids"):
        await collect(model, EngineRequest("r", np.array([1], np.int32), Sampling(seed=1), frozenset()))


def test_the_demonstration_adds_wrongly_for_some_seeds() -> None:
    answers = [add(ScriptInput("1 + 1 = 2. Now -2 + 12?", seed)) for seed in range(200)]
    assert set(answers) == {"10", "11"}
    assert 0.2 < answers.count("11") / len(answers) < 0.4
    assert add(ScriptInput("hello", 0)) == "I can only add."


async def test_load_opens_the_demonstration_and_refuses_weights() -> None:
    model = load(EngineOptions())
    chunks = await collect(model, request_of(model, "2 + 3", seed=0))
    assert model.tokenizer.decode(ids_of(chunks)) in ("5<|im_end|>", "6<|im_end|>")
    with pytest.raises(UsageError, match=r"weights are 'x\.gguf'"):
        load(EngineOptions(weights="x.gguf"))
