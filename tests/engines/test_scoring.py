"""Scorer: what it computes of given tokens is what the embedded engine recorded as it sampled them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.engine import EngineOptions
from envhub.contracts.token_file import SamplingMask
from envhub.engines import embedded
from envhub.engines.in_process.scoring import Scorer
from envhub.testing.engine_suite import collect, ids_of, request_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("cut", [{}, {"top_k": 5}, {"top_p": 0.5, "temperature": 0.7}], ids=str)
async def test_tokens_are_scored_as_they_were_sampled(tiny_gguf: Path, cut: dict[str, float]) -> None:
    model = embedded.load(EngineOptions(weights=str(tiny_gguf), threads=1))
    request = request_of(model)
    request = replace(request, sampling=replace(request.sampling, **cut))
    chunks = await collect(model, request)
    await model.engine.close()
    prompt, output = request.prompt_ids, ids_of(chunks)
    told = [chunk.mask for chunk in chunks if chunk.mask is not None]
    before = SamplingMask.of([[]] * len(prompt))
    mask = SamplingMask.joined([before, *told]) if told else None
    assert (mask is None) == (not cut)
    ids = np.concatenate([prompt, np.array(output, np.int32)])
    temperatures = np.repeat([0.0, request.sampling.temperature], [len(prompt), len(output)])
    scored = Scorer(tiny_gguf, threads=1).logprobs(ids, temperatures, mask)
    recorded = np.concatenate([chunk.logprobs for chunk in chunks])
    assert np.abs(scored[len(prompt) :] - recorded).max() < 1e-4
