"""A trainer's side of an embedded run: a generate function, whose answers a script writes, and a tokenizer's files."""

import json
from contextlib import aclosing
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from envhub.contracts.engine import EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish, Sampling
from envhub.engines.scripted import Script, ScriptedEngine, add
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, END, START, ByteTokenizer
from envhub.trainers.embedded.engine import Sampled, TrainerEngine

ARITHMETIC = "envhub/arithmetic-v0"
CONTEXT = 512


class Trainer:
    """Samples what the script writes, over a vocabulary of bytes. `policy_version` may be set at any time."""

    def __init__(self, script: Script = add) -> None:
        self.policy_version = PolicyVersion(0)
        self.requests: list[EngineRequest] = []
        self._engine = ScriptedEngine(script, ByteTokenizer(), context_tokens=CONTEXT)

    async def __call__(self, request: EngineRequest) -> Sampled:
        self.requests.append(request)
        async with aclosing(self._engine.generate(request)) as stream:
            chunks = [chunk async for chunk in stream]
        ids = np.concatenate([chunk.ids for chunk in chunks]).tolist()
        logprobs = np.concatenate([chunk.logprobs for chunk in chunks]).tolist()
        return Sampled(ids, logprobs, self.policy_version, chunks[-1].finish is Finish.ABORT)

    async def sample(self, prompt_ids: list[int], max_tokens: int, stop_ids: list[int]) -> Sampled:
        """The same for a trainer that names no request; each call has a seed of its own."""
        sampling = Sampling(max_tokens=max_tokens, seed=len(self.requests))
        return await self(EngineRequest("", np.array(prompt_ids, np.int32), sampling, frozenset(stop_ids)))


def byte_model(engine: TrainerEngine) -> Model:
    """Whose tokenizer is the script's."""
    return Model("bytes", engine, ByteTokenizer(), CHATML_TEMPLATE)


def write_tokenizer(folder: Path) -> None:
    """The files of a tokenizer of transformers that gives the ids of ByteTokenizer."""
    pipeline = Tokenizer(BPE(dict(zip(_written_bytes(), range(256), strict=True)), []))
    pipeline.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    pipeline.decoder = ByteDecoder()
    pipeline.add_special_tokens([START, END])
    pipeline.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "chat_template": CHATML_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _written_bytes() -> list[str]:
    """What byte-level BPE writes for each byte: those that can be seen as they are, the others from U+0100 on."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]
