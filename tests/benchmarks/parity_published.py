"""Tiny models with the configs that real models publish: contexts, windows, RoPE and multipliers are theirs."""

from __future__ import annotations

from collections.abc import Iterator

import transformers as tf
from parity_models import GEMMA, MOE, WIDE, Case, factors, families, rope, sizes


def published() -> Iterator[Case]:
    """Configs as real models publish them, their sizes apart: the contexts, windows and RoPE are theirs."""
    f = families()
    llama31 = rope("llama3", 500_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    llama31 |= {"original_max_position_embeddings": 8192}
    yield Case("Llama", lambda: f["Llama"](max_position_embeddings=131072, rope_parameters=llama31), "Llama-3.1-8B")
    yield Case(
        "Llama",
        lambda: f["Llama"](max_position_embeddings=131072, rope_parameters={**llama31, "factor": 32.0}),
        "Llama-3.2-1B",
    )
    yield Case("Llama", lambda: f["Llama"](max_position_embeddings=4096, rms_norm_eps=1e-5), "Llama-2-7B")
    yield Case(
        "Llama",
        lambda: f["Llama"](
            max_position_embeddings=131072,
            rope_parameters=llama31,
            tie_word_embeddings=False,
        ),
        "DeepSeek-R1-Distill-Llama-8B",
    )
    yield Case(
        "Llama",
        lambda: f["Llama"](max_position_embeddings=4096, rope_parameters=rope(theta=5e6), tie_word_embeddings=False),
        "Yi-1.5-6B",
    )
    yield Case(
        "Llama", lambda: f["Llama"](max_position_embeddings=8192, rope_parameters=rope(theta=100_000.0)), "SmolLM2-135M"
    )
    yield Case(
        "Llama",
        lambda: f["Llama"](max_position_embeddings=16384, rope_parameters=rope("linear", 100_000.0, factor=4.0)),
        "deepseek-coder-6.7b",
    )
    yield Case("Mistral", lambda: f["Mistral"](max_position_embeddings=32768, sliding_window=4096), "Mistral-7B-v0.1")
    yield Case(
        "Mistral",
        lambda: f["Mistral"](max_position_embeddings=32768, rope_parameters=rope(theta=1e6)),
        "Mistral-7B-v0.3",
    )
    yield Case(
        "Mistral",
        lambda: f["Mistral"](max_position_embeddings=131072, rope_parameters=rope(theta=1e6), head_dim=32),
        "Mistral-Nemo",
    )
    qwen25 = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "max_window_layers": 28, "sliding_window": 32768}
    yield Case(
        "Qwen2", lambda: f["Qwen2"](**qwen25, use_sliding_window=False, rope_parameters=rope(theta=1e6)), "Qwen2.5-0.5B"
    )
    yarn = rope("yarn", 1e6, factor=4.0, original_max_position_embeddings=32768)
    yield Case("Qwen2", lambda: f["Qwen2"](**qwen25, rope_parameters=yarn), "Qwen2.5-7B with YaRN")
    yield Case(
        "Qwen2",
        lambda: f["Qwen2"](
            max_position_embeddings=131072,
            use_sliding_window=False,
            sliding_window=4096,
            rope_parameters=rope(),
            tie_word_embeddings=False,
        ),
        "DeepSeek-R1-Distill-Qwen-1.5B",
    )
    yield Case(
        "Qwen3",
        lambda: f["Qwen3"](max_position_embeddings=40960, head_dim=32, rope_parameters=rope(theta=1e6)),
        "Qwen3-0.6B",
    )
    yield Case(
        "Phi3",
        lambda: tf.Phi3Config(
            **sizes(
                max_position_embeddings=4096,
                original_max_position_embeddings=4096,
                sliding_window=2047,
                rms_norm_eps=1e-5,
                tie_word_embeddings=False,
            )
        ),
        "Phi-3-mini-4k",
    )
    yield Case(
        "Phi3",
        lambda: tf.Phi3Config(
            **sizes(
                max_position_embeddings=131072,
                original_max_position_embeddings=4096,
                sliding_window=262144,
                rope_parameters=rope("longrope", **factors(8, 4096)),
                tie_word_embeddings=False,
            )
        ),
        "Phi-3-mini-128k",
    )
    long = rope("longrope", partial_rotary_factor=0.75, **factors(24, 4096))
    wide = {**WIDE, "tie_word_embeddings": True, "max_position_embeddings": 131072, "sliding_window": 262144}
    yield Case(
        "Phi3", lambda: tf.Phi3Config(**wide, original_max_position_embeddings=4096, rope_parameters=long), "Phi-4-mini"
    )
    yield Case(
        "Phi",
        lambda: tf.PhiConfig(
            **{**WIDE, "max_position_embeddings": 2048}, rope_parameters=rope(partial_rotary_factor=0.5)
        ),
        "phi-2 and phi-1_5",
    )
    yield Case(
        "SmolLM3", lambda: f["SmolLM3"](max_position_embeddings=65536, rope_parameters=rope(theta=5e6)), "SmolLM3-3B"
    )
    yield Case("Gemma", lambda: f["Gemma"](max_position_embeddings=8192, num_key_value_heads=1), "gemma-2b")
    yield Case("Gemma2", lambda: f["Gemma2"](max_position_embeddings=8192, sliding_window=4096), "gemma-2-2b")
    gemma3 = {"max_position_embeddings": 32768, "sliding_window": 512, "num_hidden_layers": 6}
    yield Case("Gemma3", lambda: tf.Gemma3TextConfig(**{**sizes(), **GEMMA, **gemma3}), "gemma-3-1b")
    scaled = {"full_attention": rope("linear", 1e6, factor=8.0), "sliding_attention": rope()}
    yield Case(
        "Gemma3",
        lambda: tf.Gemma3TextConfig(
            **{**sizes(), **GEMMA, **gemma3, "max_position_embeddings": 131072, "sliding_window": 1024},
            rope_parameters=scaled,
        ),
        "gemma-3-4b, its text model",
    )
    yield Case("Olmo", lambda: f["Olmo"](max_position_embeddings=2048, tie_word_embeddings=False), "OLMo-7B")
    yield Case("Olmo2", lambda: tf.Olmo2Config(**sizes(max_position_embeddings=4096)), "OLMo-2-7B")
    yield Case(
        "Granite",
        lambda: f["Granite"](
            max_position_embeddings=131072,
            rope_parameters=rope(theta=1e7),
            embedding_multiplier=12.0,
            attention_multiplier=0.015625,
            residual_multiplier=0.22,
            logits_scaling=8.0,
        ),
        "granite-3.1-2b",
    )
    yield Case(
        "GraniteMoeHybrid",
        lambda: f["GraniteMoeHybrid"](
            max_position_embeddings=131072,
            rope_parameters=rope(theta=1e7),
            embedding_multiplier=12.0,
            attention_multiplier=0.015625,
            residual_multiplier=0.22,
            logits_scaling=10.0,
        ),
        "granite-4.0-micro",
    )
    yield Case("Nemotron", lambda: tf.NemotronConfig(**{**WIDE, "max_position_embeddings": 4096}), "Minitron-4B")
    yield Case(
        "GptOss",
        lambda: tf.GptOssConfig(**sizes(**MOE, head_dim=16, sliding_window=128, max_position_embeddings=131072)),
        "gpt-oss-20b",
    )
    yield Case(
        "Ernie4_5",
        lambda: f["Ernie4_5"](max_position_embeddings=131072, rope_parameters=rope(theta=500_000.0)),
        "ERNIE-4.5-0.3B",
    )
    yield Case(
        "HunYuanDenseV1",
        lambda: f["HunYuanDenseV1"](
            max_position_embeddings=32768, rope_parameters=rope("dynamic", alpha=1000.0, factor=1.0)
        ),
        "Hunyuan-1.8B",
    )
    yield Case("Lfm2", lambda: f["Lfm2"](max_position_embeddings=128000, rope_parameters=rope(theta=1e6)), "LFM2-350M")
