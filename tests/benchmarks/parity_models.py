"""Tiny models of every architecture that the GenAI model builder exports and transformers has, for ``parity.py``.

Sizes are small; bases and factors of RoPE, windows, biases, caps and multipliers vary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import transformers as tf
from tiny import tiny_sizes

Make = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: what is peculiar about it.
        config: makes its config.
        published: the real models whose config it is, sizes apart.
        own_class: transformers' class, where it is not the causal one of the config.
    """

    name: str
    config: Make
    published: str = ""
    own_class: str = ""


def sizes(**more: Any) -> dict[str, Any]:
    """Four small layers, other fields as given."""
    return {**tiny_sizes(layers=4), **more}


def rope(kind: str = "default", theta: float = 10_000.0, **more: Any) -> dict[str, Any]:
    """Parameters of RoPE."""
    return {"rope_type": kind, "rope_theta": theta, **more}


def factors(count: int, original: int = 64) -> dict[str, Any]:
    """LongRoPE for ``count`` frequencies."""
    short, long = [1 + n / count for n in range(count)], [2 + 4 * n / count for n in range(count)]
    return {"short_factor": short, "long_factor": long, "original_max_position_embeddings": original}


#: Every type of RoPE, for heads of 16 features.
ROPES: dict[str, dict[str, Any]] = {
    "linear": rope("linear", factor=4.0),
    "dynamic": rope("dynamic", factor=4.0),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=64),
    "longrope": rope("longrope", **factors(8)),
    "llama3": rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
    ),
    "proportional": rope("proportional", partial_rotary_factor=0.5),
}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}
_LFM = {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention", "conv", "full_attention"]}
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
_HYBRID = {"shared_intermediate_size": 128, "num_local_experts": 0, "num_experts_per_tok": 0}
_HYBRID |= {"layer_types": ["attention"] * 4}
WIDE = tiny_sizes(hidden=256, layers=4, tied=False)
_EYES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
_QWEN_EYES = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
}
_QWEN_IDS = {"image_token_id": 310, "video_token_id": 311, "vision_start_token_id": 312, "vision_end_token_id": 313}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_QWEN35 = {**sizes(head_dim=32), **_LINEAR, "rope_parameters": rope(partial_rotary_factor=0.5, mrope_section=[4, 2, 2])}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def families() -> dict[str, Callable[..., Any]]:
    """Architecture -> its config, of further fields."""
    return {
        "Llama": lambda **k: tf.LlamaConfig(**sizes(**k)),
        "Mistral": lambda **k: tf.MistralConfig(**sizes(**{"sliding_window": None, **k})),
        "Qwen2": lambda **k: tf.Qwen2Config(**sizes(**k)),
        "Qwen3": lambda **k: tf.Qwen3Config(**sizes(**{"head_dim": 16, **k})),
        "SmolLM3": lambda **k: tf.SmolLM3Config(**sizes(**k)),
        "Granite": lambda **k: tf.GraniteConfig(**sizes(**k)),
        "GraniteMoeHybrid": lambda **k: tf.GraniteMoeHybridConfig(
            **sizes(**{**_HYBRID, "position_embedding_type": "rope", **k})
        ),
        "Olmo": lambda **k: tf.OlmoConfig(**sizes(**k)),
        "Gemma": lambda **k: tf.GemmaConfig(**sizes(**{"head_dim": 16, **k})),
        "Gemma2": lambda **k: tf.Gemma2Config(**sizes(**{**GEMMA, **k})),
        "Ernie4_5": lambda **k: tf.Ernie4_5Config(**sizes(**k)),
        "HunYuanDenseV1": lambda **k: tf.HunYuanDenseV1Config(**sizes(**{"head_dim": 16, **k})),
        "Lfm2": lambda **k: tf.Lfm2Config(**sizes(**{**_LFM, **k})),
        "Lfm2Moe": lambda **k: tf.Lfm2MoeConfig(
            **sizes(**{**_EXPERTS, "num_dense_layers": 1, "layer_types": _LFM["layer_types"], **k})
        ),
    }


def partial_families() -> dict[str, Callable[..., Any]]:
    """Architectures that rotate a part of each head: of 64 features, half of them, which ONNX Runtime takes."""
    return {
        "Phi": lambda **k: tf.PhiConfig(**{**WIDE, **k}),
        "Nemotron": lambda **k: tf.NemotronConfig(**{**WIDE, **k}),
    }


def cases() -> Iterator[Case]:
    """All models."""
    for name, family in families().items():
        yield Case(name, family)
        for kind, parameters in ROPES.items():
            if name != "Ernie4_5" or kind != "longrope":  # which transformers itself can't run
                yield Case(f"{name}, {kind} RoPE", lambda f=family, p=parameters: f(rope_parameters=p))
    for name, family in partial_families().items():
        for kind in ("default", "linear", "yarn", "longrope", "llama3"):
            parameters = {**ROPES.get(kind, rope()), "partial_rotary_factor": 0.5}
            parameters |= factors(16) if kind == "longrope" else {}
            yield Case(f"{name}, {kind} RoPE of half a head", lambda f=family, p=parameters: f(rope_parameters=p))
    yield from _variants()
    yield from _other_classes()


def _variants() -> Iterator[Case]:
    f = families()
    yield Case("Llama, head of its own", lambda: f["Llama"](tie_word_embeddings=False))
    yield Case("Llama, biases of attention and MLP", lambda: f["Llama"](attention_bias=True, mlp_bias=True))
    yield Case("Llama, heads of 32 features", lambda: f["Llama"](head_dim=32))
    yield Case("Llama, as many heads for keys", lambda: f["Llama"](num_key_value_heads=4))
    yield Case("Llama, one head for keys", lambda: f["Llama"](num_key_value_heads=1))
    yield Case("Llama, epsilon 1e-3", lambda: f["Llama"](rms_norm_eps=1e-3))
    yield Case("Llama, GELU", lambda: f["Llama"](hidden_act="gelu"))
    yield Case("Llama, approximate GELU", lambda: f["Llama"](hidden_act="gelu_new"))
    yield Case("Llama, ReLU", lambda: f["Llama"](hidden_act="relu"))
    yield Case(
        "Llama, YaRN with both betas",
        lambda: f["Llama"](rope_parameters={**ROPES["yarn"], "beta_fast": 8.0, "beta_slow": 2.0}),
    )
    yield Case(
        "Llama, YaRN with a factor of attention",
        lambda: f["Llama"](rope_parameters={**ROPES["yarn"], "attention_factor": 1.3}),
    )
    yield Case(
        "Llama, YaRN with mscale",
        lambda: f["Llama"](rope_parameters={**ROPES["yarn"], "mscale": 0.7, "mscale_all_dim": 1.0}),
    )
    yield Case("Llama, YaRN not truncated", lambda: f["Llama"](rope_parameters={**ROPES["yarn"], "truncate": False}))
    yield Case("Llama, a base of 500,000", lambda: f["Llama"](rope_parameters=rope(theta=500_000.0)))
    for window in (1, 16, 64, 200):
        yield Case(f"Mistral, window of {window}", lambda w=window: f["Mistral"](sliding_window=w))
        yield Case(f"Phi3, window of {window}", lambda w=window: tf.Phi3Config(**sizes(sliding_window=w)))
    yield Case("Mistral, window and YaRN", lambda: f["Mistral"](sliding_window=64, rope_parameters=ROPES["yarn"]))
    yield Case("Mistral, heads of 32 features", lambda: f["Mistral"](head_dim=32))
    for layers in (0, 1, 2, 4):
        more = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": layers}
        yield Case(f"Qwen2, windows from layer {layers} on", lambda m=more: f["Qwen2"](**m))
        yield Case(f"Qwen3, windows from layer {layers} on", lambda m=more: f["Qwen3"](**m))
    yield Case("Qwen3, bias", lambda: f["Qwen3"](attention_bias=True))
    yield Case("Qwen3, heads of 32 features", lambda: f["Qwen3"](head_dim=32))
    yield Case("SmolLM3, RoPE in every layer", lambda: f["SmolLM3"](no_rope_layers=[1] * 4))
    yield Case("SmolLM3, RoPE in the second and third", lambda: f["SmolLM3"](no_rope_layers=[0, 1, 1, 0]))
    yield Case("SmolLM3, windows", lambda: f["SmolLM3"](use_sliding_window=True, sliding_window=64))
    yield Case("SmolLM3, biases", lambda: f["SmolLM3"](attention_bias=True, mlp_bias=True))
    yield Case("Granite, biases", lambda: f["Granite"](attention_bias=True, mlp_bias=True))
    yield Case("GraniteMoeHybrid, without RoPE", lambda: f["GraniteMoeHybrid"](position_embedding_type="nope"))
    yield Case("GraniteMoeHybrid, experts", lambda: f["GraniteMoeHybrid"](**MOE))
    yield Case("GraniteMoeHybrid, Mamba", lambda: f["GraniteMoeHybrid"](layer_types=["mamba", "attention"] * 2))
    yield Case("Olmo, clipped", lambda: f["Olmo"](clip_qkv=0.5))
    yield Case("Olmo, bias", lambda: f["Olmo"](attention_bias=True))
    yield Case("Gemma, hidden size without a whole root", lambda: f["Gemma"](hidden_size=96, intermediate_size=192))
    yield Case("Gemma2, caps of 5 and 3", lambda: f["Gemma2"](attn_logit_softcapping=5.0, final_logit_softcapping=3.0))
    yield Case("Gemma2, no caps", lambda: f["Gemma2"](attn_logit_softcapping=None, final_logit_softcapping=None))
    yield Case("Gemma2, another scale", lambda: f["Gemma2"](query_pre_attn_scalar=144, head_dim=32))
    yield Case("Gemma2, windows everywhere", lambda: f["Gemma2"](layer_types=["sliding_attention"] * 4))
    for kind in ("default", "linear", "yarn", "llama3"):
        whole = {**ROPES.get(kind, rope()), "rope_theta": 1e6}
        parameters = {"full_attention": whole, "sliding_attention": rope()}
        yield Case(
            f"Gemma3, {kind} RoPE of whole layers",
            lambda p=parameters: tf.Gemma3TextConfig(**{**sizes(num_hidden_layers=6), **GEMMA}, rope_parameters=p),
        )
    yield Case(
        "Gemma3, final cap",
        lambda: tf.Gemma3TextConfig(**{**sizes(num_hidden_layers=6), **GEMMA}, final_logit_softcapping=3.0),
    )
    yield Case("Ernie4_5, biases", lambda: f["Ernie4_5"](use_bias=True))
    yield Case(
        "HunYuanDenseV1, alpha", lambda: f["HunYuanDenseV1"](rope_parameters=rope("dynamic", alpha=1000.0, factor=1.0))
    )
    yield Case("Lfm2, bias of convolutions", lambda: f["Lfm2"](conv_bias=True))
    yield Case("Phi, norms of queries and keys", lambda: partial_families()["Phi"](qk_layernorm=True))
    yield Case("Nemotron, biases", lambda: partial_families()["Nemotron"](attention_bias=True, mlp_bias=True))
    yield Case(
        "Phi3, longrope",
        lambda: tf.Phi3Config(**sizes(original_max_position_embeddings=64, rope_parameters=ROPES["longrope"])),
    )
    yield Case(
        "Phi3, longrope and windows",
        lambda: tf.Phi3Config(
            **sizes(original_max_position_embeddings=64, rope_parameters=ROPES["longrope"], sliding_window=48)
        ),
    )
    yield Case("GptOss", lambda: tf.GptOssConfig(**sizes(**MOE, head_dim=16, sliding_window=64)))
    yield Case(
        "GptOss, truncated YaRN",
        lambda: tf.GptOssConfig(**sizes(**MOE, head_dim=16, sliding_window=64, rope_parameters=ROPES["yarn"])),
    )


def _other_classes() -> Iterator[Case]:
    """Models of several kinds of input, whose text part is exported, and what the builder can't export."""
    text = tf.Gemma3TextConfig(**{**sizes(num_hidden_layers=6), **GEMMA})
    yield Case(
        "Gemma3ForConditionalGeneration",
        lambda: tf.Gemma3Config(
            text_config=text,
            vision_config=tf.SiglipVisionConfig(**_EYES, image_size=28, patch_size=14),
            mm_tokens_per_image=4,
            image_token_index=310,
            boi_token_index=311,
            eoi_token_index=312,
        ),
        own_class="Gemma3ForConditionalGeneration",
    )
    yield Case(
        "Mistral3",
        lambda: tf.Mistral3Config(
            text_config=tf.MistralConfig(**sizes(sliding_window=None, head_dim=16)),
            image_token_index=310,
            vision_config=tf.PixtralVisionConfig(**_EYES, head_dim=16, image_size=28, patch_size=14),
        ),
        own_class="Mistral3ForConditionalGeneration",
    )
    yield Case(
        "Qwen2_5_VL",
        lambda: tf.Qwen2_5_VLConfig(
            text_config=sizes(rope_parameters=rope(mrope_section=[2, 3, 3])),
            vision_config=_QWEN_EYES,
            **_QWEN_IDS,
        ),
        own_class="Qwen2_5_VLForConditionalGeneration",
    )
    yield Case(
        "Qwen3VL",
        lambda: tf.Qwen3VLConfig(
            text_config=sizes(head_dim=16, rope_parameters=rope(mrope_section=[4, 2, 2])),
            **_QWEN_IDS,
            vision_config={**_QWEN_EYES, "deepstack_visual_indexes": [0]},
        ),
        own_class="Qwen3VLForConditionalGeneration",
    )
    yield Case(
        "Qwen3_5",
        lambda: tf.Qwen3_5Config(
            text_config=_QWEN35,
            vision_config=_QWEN_EYES,
            **_QWEN_IDS,
        ),
        own_class="Qwen3_5ForConditionalGeneration",
    )
    yield Case(
        "Qwen3_5Moe",
        lambda: tf.Qwen3_5MoeConfig(
            text_config={**_QWEN35, **_EXPERTS, "shared_expert_intermediate_size": 32},
            vision_config=_QWEN_EYES,
            **_QWEN_IDS,
        ),
        own_class="Qwen3_5MoeForConditionalGeneration",
    )
    yield Case(
        "Lfm2Vl",
        lambda: tf.Lfm2VlConfig(
            text_config=families()["Lfm2"](),
            image_token_id=310,
            vision_config=tf.Siglip2VisionConfig(**_EYES, patch_size=14, num_patches=16),
        ),
        own_class="Lfm2VlForConditionalGeneration",
    )
    gemma4 = sizes(num_hidden_layers=6, head_dim=16, global_head_dim=32, sliding_window=64)
    yield Case(
        "Gemma4Unified",
        lambda: tf.Gemma4UnifiedConfig(
            text_config={**gemma4, "num_global_key_value_heads": 1},
        ),
        own_class="Gemma4UnifiedForConditionalGeneration",
    )
    yield Case(
        "Gemma4",
        lambda: tf.Gemma4Config(
            text_config={**gemma4, "vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 0},
        ),
        own_class="Gemma4ForConditionalGeneration",
    )
    yield Case("Mixtral", lambda: tf.MixtralConfig(**sizes(**MOE)))
