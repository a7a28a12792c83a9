"""A scripted model that takes its time, so that a kill meets rollouts in every state."""

from envhub.contracts.engine import EngineOptions, Model
from envhub.engines.scripted import ScriptedEngine
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer


def load(options: EngineOptions) -> Model:
    tokenizer = ByteTokenizer()
    engine = ScriptedEngine(lambda asked: f"step {asked.seed % 1000}", tokenizer, latency_s=0.02)
    return Model("slow", engine, tokenizer, CHATML_TEMPLATE)
