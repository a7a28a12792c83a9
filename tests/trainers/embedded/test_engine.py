"""A trainer's tokenizer and its answers, as an engine of ours has them."""

from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish, Sampling
from envhub.errors import EngineFault
from envhub.tokens.byte_tokenizer import ByteTokenizer
from envhub.trainers.embedded.engine import Sampled, TrainerEngine, trainer_model
from tests.trainers.embedded.sampling_trainer import write_tokenizer

pytestmark = pytest.mark.anyio

STOP = 257


class SavedTokenizer:
    """What of transformers' tokenizers is asked for."""

    def save_pretrained(self, folder: str) -> None:
        write_tokenizer(Path(folder))


async def answered(sampled: Sampled, *, max_tokens: int = 4, context: int = 16):
    async def generate(request):
        return sampled

    engine = TrainerEngine(context)
    engine.sample_with(generate)
    request = EngineRequest("r/0", np.arange(10, dtype=np.int32), Sampling(max_tokens=max_tokens), frozenset({STOP}))
    (chunk,) = [chunk async for chunk in engine.generate(request)]
    return chunk


@pytest.mark.parametrize(
    ("sampled", "options", "finish"),
    [
        (Sampled([65, STOP], [-1.0, -0.5]), {}, Finish.STOP),
        (Sampled([65] * 4, [-1.0] * 4), {}, Finish.LENGTH),
        (Sampled([65] * 6, [-1.0] * 6), {"max_tokens": 9}, Finish.CONTEXT),
        (Sampled([65], [-1.0], aborted=True), {}, Finish.ABORT),
        (Sampled([65], [-1.0]), {}, Finish.STOP),  # by an end that the trainer alone knows
    ],
)
async def test_why_an_answer_ended_is_told_by_its_tokens(sampled, options, finish):
    assert (await answered(sampled, **options)).finish is finish


async def test_tokens_log_probabilities_and_version_are_the_trainer_s():
    chunk = await answered(Sampled([65, STOP], [-1.0, -0.5], PolicyVersion(9)))
    assert (chunk.ids.tolist(), chunk.logprobs.tolist(), chunk.policy_version) == ([65, STOP], [-1.0, -0.5], 9)
    assert (chunk.ids.dtype, chunk.logprobs.dtype) == (np.int32, np.float32)


async def test_a_log_probability_too_few_is_refused():
    with pytest.raises(EngineFault, match="gave 2 ids and 1 log probabilities") as caught:
        await answered(Sampled([65, STOP], [-1.0]))
    assert not caught.value.retryable


def test_a_trainer_s_tokenizer_writes_the_same_prompt():
    model = trainer_model(TrainerEngine(16), SavedTokenizer(), "bytes")
    ours = ByteTokenizer()
    assert model.tokenizer.special_ids == ours.special_ids
    assert model.tokenizer.stop_ids == ours.stop_ids
    assert model.tokenizer.encode("2 + 2 = é\n") == ours.encode("2 + 2 = é\n")
    assert "add_generation_prompt" in model.chat_template
