"""The fields of a GGUF file that transformers passes over, as values of the model's config.

transformers 5.23 reads sizes, base and epsilon. It ignores RoPE scaling, whether as fields (``rope.scaling.*``) or as
tensors (``rope_freqs``, ``rope_factors_long``), windows of Phi-3, soft-capping, and the size of a head where it is not
the usual one. llama.cpp's ``llama-model.cpp`` says what the fields mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from olivine.passes.errors import SourceError
from olivine.passes.sources.gguf.header import GgufHeader

#: Tensors that are no weights of the model.
FREQUENCIES, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
ROPE_TENSORS = (FREQUENCIES, LONG, SHORT)
_NO_SCALING = (None, "none")
#: Models whose rotary embedding may turn a part of a head.
_PARTIAL = ("phi3", "nemotron")
#: Caps of logits, and what transformers takes where it reads none (Gemma 2).
_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
_WINDOW = "attention.sliding_window"
#: Layers of the Gemma models of 27 billion weights, whose attention is scaled by hidden size over heads.
_GEMMA_27B = {"gemma2": 46, "gemma3": 62}
#: The size of a head by which transformers scales the attention of all Gemma models.
_GEMMA_HEAD = 256


def states_more(header: GgufHeader) -> bool:
    """True when the file states something that olivine 0.1.0 passed over; builds of others keep their keys."""
    dims, width = header.own("rope.dimension_count"), header.own("attention.key_length")
    kind = header.architecture
    return bool(
        header.tensors.keys() & set(ROPE_TENSORS)
        or _scaling_type(header) not in _NO_SCALING
        or (kind == "phi3" and header.own(_WINDOW))
        or any(header.own(cap, usual) != usual for cap, usual in _CAPS.items())
        or (kind in _GEMMA_27B and (header.own("block_count") == _GEMMA_27B[kind] or width != _GEMMA_HEAD))
        or (dims is not None and width is not None and dims != width)
        or header.own("rope.freq_base_swa") is not None
        or kind == "nemotron"  # its export is mended
    )


def stated_values(
    header: GgufHeader, config: Mapping[str, Any], factors: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Values of a model's config that differ from those that transformers read.

    Args:
        header: of the file.
        config: as transformers read it, as plain values.
        factors: the tensors among :data:`ROPE_TENSORS` that the file has.

    Raises:
        SourceError: for RoPE scaling that transformers has no word for.
    """
    values: dict[str, Any] = {}
    kind = str(config["model_type"])
    if (width := header.own("attention.key_length")) is not None and config.get("head_dim") not in (None, width):
        values["head_dim"] = width
    if kind == "phi3" and (window := header.own(_WINDOW)):
        values["sliding_window"] = window
    if (config.get("pad_token_id") or 0) >= config["vocab_size"]:  # the class's own, of another vocabulary
        values["pad_token_id"] = header.fields.get("tokenizer.ggml.padding_token_id")
    for cap in _CAPS:
        if (stated := header.own(cap)) is not None and cap in config and config[cap] != stated:
            values[cap] = stated
    if header.architecture in _GEMMA_27B:
        large = config["num_hidden_layers"] == _GEMMA_27B[header.architecture]
        scalar = (
            config["hidden_size"] // config["num_attention_heads"]
            if large
            else values.get("head_dim", config["head_dim"])
        )
        if config["query_pre_attn_scalar"] != scalar:
            values["query_pre_attn_scalar"] = scalar
    if kind == "phi3" and LONG in factors:
        values["original_max_position_embeddings"] = header.own("rope.scaling.original_context_length")
    rope = dict(config["rope_parameters"])
    stated_rope = _rope(header, rope, {**config, **values}, factors)
    return values | ({"rope_parameters": stated_rope} if stated_rope != rope else {})


def _scaling_type(header: GgufHeader) -> str | None:
    stated = header.own("rope.scaling.type")
    return "linear" if stated is None and header.own("rope.scale_linear", 1.0) != 1.0 else stated


def _rope(
    header: GgufHeader, rope: dict[str, Any], config: Mapping[str, Any], factors: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """The parameters of RoPE, by layer type where ``rope`` has them so."""
    nested = "full_attention" in rope
    whole = dict(rope["full_attention"]) if nested else rope
    whole = whole | _partial(header, config) | _scaled(header, config, factors)
    if not nested:
        return whole
    local = dict(rope["sliding_attention"])
    if (base := header.own("rope.freq_base_swa")) is not None:
        local["rope_theta"] = base
    return rope | {"full_attention": whole, "sliding_attention": local}


def _partial(header: GgufHeader, config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    dims = header.own("rope.dimension_count")
    if dims is None or dims == width:
        return {}
    if config["model_type"] not in _PARTIAL:
        raise SourceError(
            f"the file states that RoPE turns {dims} of the {width} features of a head, and transformers' "
            f"{config['model_type']} turns all of them"
        )
    return {"partial_rotary_factor": dims / width}


def _scaled(header: GgufHeader, config: Mapping[str, Any], factors: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The scaling that the file states, in transformers' words; empty where it states none."""
    kind, factor = _scaling_type(header), header.own("rope.scaling.factor", header.own("rope.scale_linear"))
    context = int(config["max_position_embeddings"])
    trained_on = int(header.own("rope.scaling.original_context_length", context))
    attention = header.own("rope.scaling.attn_factor")
    if FREQUENCIES in factors and kind in _NO_SCALING:
        # Factors without a rule: what transformers calls LongRoPE, with one list for texts of any length.
        same = list(factors[FREQUENCIES])
        return _long(same, same, context, 1.0)
    if LONG in factors and SHORT in factors and kind in (*_NO_SCALING, "longrope"):
        return _long(list(factors[SHORT]), list(factors[LONG]), trained_on, attention)
    if kind in _NO_SCALING:
        return {}
    if factors or kind not in ("linear", "yarn") or not factor:
        raise SourceError(f"the file states RoPE scaling of type '{kind}' that transformers has no word for")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    scaled = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": trained_on}
    for side in ("beta_fast", "beta_slow"):
        if (beta := header.own(f"rope.scaling.yarn_{side}")) is not None:
            scaled[side] = beta
    if attention not in (None, 1.0):
        scaled["attention_factor"] = attention * (0.1 * math.log(factor) + 1.0)
    return scaled


def _long(short: list[float], long: list[float], trained_on: int, attention: float | None) -> dict[str, Any]:
    scaled: dict[str, Any] = {"rope_type": "longrope", "short_factor": short, "long_factor": long}
    scaled["original_max_position_embeddings"] = trained_on
    return scaled if attention is None else scaled | {"attention_factor": attention}
