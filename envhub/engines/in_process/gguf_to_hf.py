"""A llama of a GGUF file as transformers names it: its configuration and its tensors."""

from collections.abc import Iterator

import numpy as np

from envhub.engines.in_process.gguf_weights import Floats, LlamaWeights


def hf_config(weights: LlamaWeights) -> dict[str, object]:
    """What config.json says of such a model."""
    shape = weights.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": weights.layers[0].down.shape[1],
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "vocab_size": len(weights.embedding),
        "tie_word_embeddings": weights.output is weights.embedding,
    }


def hf_tensors(weights: LlamaWeights) -> Iterator[tuple[str, Floats]]:
    """By name. A tied output matrix is not named again."""
    yield "model.embed_tokens.weight", weights.embedding
    yield "model.norm.weight", weights.output_norm
    if weights.output is not weights.embedding:
        yield "lm_head.weight", weights.output
    shape = weights.shape
    query, key = shape.width, shape.kv_heads * shape.head_width
    for index, layer in enumerate(weights.layers):
        block = f"model.layers.{index}"
        gate, up = np.split(layer.gate_up, 2)
        for name, part in zip(("q_proj", "k_proj", "v_proj"), np.split(layer.qkv, [query, query + key]), strict=True):
            yield f"{block}.self_attn.{name}.weight", part
        yield f"{block}.self_attn.o_proj.weight", layer.attention_output
        yield f"{block}.mlp.gate_proj.weight", gate
        yield f"{block}.mlp.up_proj.weight", up
        yield f"{block}.mlp.down_proj.weight", layer.down
        yield f"{block}.input_layernorm.weight", layer.attention_norm
        yield f"{block}.post_attention_layernorm.weight", layer.mlp_norm
