"""VllmEngine over a double of its server; test_vllm_server.py has it over a real one."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envhub.contracts.engine import EngineOptions, Model, ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import SamplingMask
from envhub.engines.over_http import engine as http_engine
from envhub.engines.vllm import COMPLETIONS, GENERATE, VERSION, load
from envhub.errors import EngineFault, UnknownName, UsageError
from envhub.testing.engine_suite import (
    EngineSuite,
    ServedEngineSuite,
    collect,
    ids_of,
    listening,
    request_of,
    versions_of,
)
from tests.engines.server_double import Json, opened
from tests.engines.vllm_double import VllmDouble, left, npy, routed

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_engine, "HELD_S", 0.02)


@pytest.fixture
def double() -> VllmDouble:
    return VllmDouble()


@pytest.fixture
async def model(double: VllmDouble, tiny_gguf: Path) -> AsyncIterator[Model]:
    async with opened(double, load, tiny_gguf) as model:
        yield model


@pytest.fixture
def engine(model: Model) -> ServedEngine:
    assert isinstance(model.engine, ServedEngine)
    return model.engine


class OverDouble:
    @pytest.fixture
    async def model(self, double: VllmDouble, tiny_gguf: Path) -> AsyncIterator[Model]:
        async with opened(double, load, tiny_gguf) as model:
            yield model


class TestConformance(OverDouble, ServedEngineSuite):
    @pytest.fixture
    def double(self) -> VllmDouble:
        double = VllmDouble()
        double.token_s = 0.003
        return double


class TestCompletionsConformance(OverDouble, EngineSuite):
    @pytest.fixture
    def double(self) -> VllmDouble:
        double = VllmDouble()
        double.missing, double.token_s = {GENERATE}, 0.003
        return double


async def test_truncated_sampling_is_asked_for_and_what_it_left_comes_with_the_tokens(
    double: VllmDouble, model: Model
) -> None:
    double.returns_masks = True
    request = request_of(model, max_tokens=5)
    chunks = await collect(
        model, replace(request, sampling=replace(request.sampling, top_p=0.9, top_k=40, min_p=0.1, temperature=1.0))
    )
    asked = double.asked[-1][1]["sampling_params"]
    assert (asked["top_p"], asked["top_k"], asked["min_p"]) == (0.9, 40, 0.1)
    mask = SamplingMask.joined([chunk.mask for chunk in chunks if chunk.mask])
    assert [mask.at(token).tolist() for token in range(len(mask))] == [left(id) for id in ids_of(chunks)]


async def test_logprobs_of_the_whole_distribution_are_refused_where_sampling_is_truncated(
    double: VllmDouble, model: Model
) -> None:
    double.returns_masks = double.raw_logprobs = True
    request = request_of(model)
    with pytest.raises(EngineFault, match=r"not all ids may be drawn.*or sample at temperature 1 from all ids"):
        await collect(model, replace(request, sampling=replace(request.sampling, top_k=9)))


async def test_a_server_that_tells_masks_takes_no_sampling_from_all_ids_and_says_so(
    double: VllmDouble, model: Model
) -> None:
    double.returns_masks = True
    with pytest.raises(EngineFault, match=r"requires temperature > 0 and top_k > 0") as caught:
        await collect(model, request_of(model))
    assert not caught.value.retryable


async def test_a_server_that_does_not_say_what_truncated_sampling_left_is_no_use_for_it(model: Model) -> None:
    request = request_of(model)
    with pytest.raises(EngineFault, match="start vLLM with --return-sampling-mask") as caught:
        await collect(model, replace(request, sampling=replace(request.sampling, top_p=0.9)))
    assert not caught.value.retryable


async def test_experts_come_with_the_last_chunk_of_the_tokens_that_are_wanted(double: VllmDouble, model: Model) -> None:
    double.returns_experts = True
    request = request_of(model, max_tokens=5)
    for start in (7, 0, 7):  # at first it is not known that the server tells them: it tells all
        chunks = await collect(model, replace(request, routed_from=start))
        read = [*request.prompt_ids.tolist(), *ids_of(chunks)][start:-1]
        assert [chunk.experts for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        experts = chunks[-1].experts
        assert experts is not None
        assert experts.tolist() == routed(read).tolist()
    asked = [body["sampling_params"] for _, body in double.asked if "sampling_params" in body]
    starts = [params.get("routed_experts_prompt_start") for params in asked]
    assert starts == [None, 0, 7]


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        ("nonsense", "routed experts can't be read"),
        (npy(routed(range(3))), "experts of 3 tokens, and its model read"),
        (npy(routed(range(99))[:, 0]), r"can't be read: routed experts are uint8 \[99, 2\]"),
    ],
    ids=["no array", "too few", "of another shape"],
)
async def test_experts_that_can_not_be_are_a_fault(double: VllmDouble, model: Model, spoiled: str, reason: str) -> None:
    def spoil(event: Json) -> Json:
        choice = event["choices"][0]
        return {**event, "choices": [{**choice, "routed_experts": spoiled if choice["finish_reason"] else None}]}

    double.spoil = spoil
    with pytest.raises(EngineFault, match=reason) as caught:
        await collect(model, request_of(model))
    assert caught.value.retryable


async def test_sampling_is_asked_for_without_any_change_of_the_distribution(double: VllmDouble, model: Model) -> None:
    request = request_of(model, max_tokens=5, seed=9)
    await collect(model, request)
    path, body = double.asked[-1]
    assert path == GENERATE
    assert body["token_ids"] == request.prompt_ids.tolist()
    assert body["sampling_params"] == {
        "max_tokens": 5,
        "temperature": 1.0,
        "seed": 9,
        "logprobs": 0,
        "stop_token_ids": sorted(request.stop_ids),
        "ignore_eos": True,
        "detokenize": False,
    }


async def test_completions_are_told_to_leave_generation_config_aside(double: VllmDouble, tiny_gguf: Path) -> None:
    double.missing = {GENERATE}
    async with opened(double, load, tiny_gguf) as model:
        await collect(model, request_of(model, max_tokens=5))
    path, body = double.asked[-1] if double.asked[-1][0] == COMPLETIONS else double.asked[-2]
    assert path == COMPLETIONS
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)


async def test_two_requests_of_one_name_have_names_of_their_own_on_the_server(double: VllmDouble, model: Model) -> None:
    request = request_of(model, max_tokens=2)
    for _ in range(2):
        await collect(model, request)
    names = [body["request_id"] for path, body in double.asked if path == GENERATE and body]
    assert len(set(names)) == 2
    assert all(name.startswith(request.request_id) for name in names)


async def test_tokens_of_a_long_generation_are_handed_on_while_it_runs(double: VllmDouble, model: Model) -> None:
    double.token_s = 0.01
    chunks = await collect(model, replace(request_of(model, max_tokens=40), stop_ids=frozenset()))
    assert len(chunks) > 2
    assert len(ids_of(chunks)) == 40
    assert versions_of(chunks) == [(0, 40)]


async def test_generations_that_run_side_by_side_share_the_question_for_the_version(
    double: VllmDouble, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_engine, "HELD_S", 0.0)
    double.token_s = 0.02

    async def ask(seed: int) -> None:
        await collect(model, request_of(model, seed=seed, max_tokens=10))

    async with anyio.create_task_group() as tasks:
        for seed in range(20):
            tasks.start_soon(ask, seed)
    questions = sum(path == VERSION for path, _ in double.asked)
    assert questions < 100  # of 180


async def test_weights_that_somebody_else_changes_unpaused_still_divide_the_tokens(
    double: VllmDouble, model: Model
) -> None:
    double.token_s = 0.005
    async with listening(model, replace(request_of(model, max_tokens=60), stop_ids=frozenset())) as chunks:
        double.version = "4"
    assert [version for version, _ in versions_of(chunks)] == [0, 4]
    assert len(ids_of(chunks)) == 60


async def test_without_spans_weights_that_change_under_a_generation_fail_it(
    double: VllmDouble, tiny_gguf: Path
) -> None:
    double.missing, double.token_s = {GENERATE}, 0.02
    async with opened(double, load, tiny_gguf) as model:
        request = replace(request_of(model, max_tokens=60), stop_ids=frozenset())
        with pytest.raises(EngineFault, match="changed from version 0 under a generation") as caught:
            async with aclosing(model.engine.generate(request)) as generation:
                await anext(generation)
                double.version = "1"
                async for chunk in generation:
                    assert chunk.policy_version == 0
    assert caught.value.retryable


async def test_a_server_that_tells_no_version_has_the_one_that_we_stamped(double: VllmDouble, tiny_gguf: Path) -> None:
    double.missing = {GENERATE, VERSION, "/update_weight_version"}
    async with opened(double, load, tiny_gguf) as model:
        assert isinstance(model.engine, ServedEngine)
        await model.engine.reload("", PolicyVersion(3))
        assert versions_of(await collect(model, request_of(model, max_tokens=4))) == [(3, 4)]


@pytest.mark.parametrize("paused", [False, True])
async def test_a_reload_pauses_drops_what_old_weights_computed_stamps_and_leaves_the_pause_as_it_was(
    double: VllmDouble, engine: ServedEngine, paused: bool
) -> None:
    if paused:
        await engine.pause(keep=False)
    double.asked.clear()
    await engine.reload("/weights/7", PolicyVersion(7))
    resumed = [] if paused else ["/resume"]
    orders = ["/is_paused", "/pause", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", VERSION]
    assert [path for path, _ in double.asked] == orders + resumed
    assert double.asked[2][1] == {"method": "reload_weights", "kwargs": {"weights_path": "/weights/7"}}
    assert double.paused is paused


async def test_a_reload_that_fails_leaves_the_version_and_resumes(double: VllmDouble, engine: ServedEngine) -> None:
    double.missing = {"/collective_rpc"}
    with pytest.raises(EngineFault, match=r"/collective_rpc with status 404.*docs/engines\.md"):
        await engine.reload("/weights/7", PolicyVersion(7))
    assert (double.paused, await engine.version()) == (False, 0)


async def test_a_version_that_is_no_number_is_refused(double: VllmDouble, engine: ServedEngine) -> None:
    double.version = "step-7"
    with pytest.raises(EngineFault, match="version 'step-7'") as caught:
        await engine.version()
    assert not caught.value.retryable


async def test_a_server_that_takes_no_ids_is_refused(double: VllmDouble, tiny_gguf: Path) -> None:
    double.missing = {GENERATE, COMPLETIONS}
    with pytest.raises(UsageError, match="--enable-scale-out"):
        async with opened(double, load, tiny_gguf):
            pass


async def test_a_model_that_the_server_does_not_have_is_refused(double: VllmDouble, tiny_gguf: Path) -> None:
    with pytest.raises(UnknownName, match="no model on the server 'huge'; registered: tiny"):
        async with opened(double, load, tiny_gguf, model="huge"):
            pass


async def test_the_key_is_sent_and_a_missing_one_is_named(
    double: VllmDouble, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.key = "secret"
    with pytest.raises(UsageError, match="put it into ENVHUB_KEY_127_0_0_1"):
        async with opened(double, load, tiny_gguf):
            pass
    monkeypatch.setenv("ENVHUB_KEY_127_0_0_1", "secret")
    async with opened(double, load, tiny_gguf) as model:
        assert await collect(model, request_of(model, max_tokens=2))
        double.key = "another"
        with pytest.raises(EngineFault, match="status 401") as caught:
            await collect(model, request_of(model, max_tokens=2))
    assert "secret" not in str(caught.value)
    assert "[key]" in str(caught.value)


async def test_a_tokenizer_that_is_not_here_is_asked_for(double: VllmDouble) -> None:
    with pytest.raises(
        UsageError, match=r"model from '/elsewhere/tiny', which is no directory here; give tokenizer=PATH"
    ):
        async with opened(double, load, ""):
            pass


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host:1", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"url is '{url}'"):
        load(EngineOptions(url=url))


def test_a_server_that_does_not_run_is_named(free_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    with pytest.raises(UsageError, match=f"no server answers at {url}: connection refused; start it"):
        load(EngineOptions(url=url))
