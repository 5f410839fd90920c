"""Tiny checkpoints as GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: transformers' model type -> GGUF's word, and the norms that are stored with one added.
_KINDS = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "nemotron": "nemotron",
}
_NORMS_PLUS_ONE = ("gemma2", "gemma3", "nemotron")


def tiny_gguf(
    checkpoint: Path,
    path: Path,
    *,
    without: Collection[str] = (),
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Sequence[float]] | None = None,
    parts: int = 1,
    kind: str = "F32",
    codes: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a checkpoint as a GGUF file; returns the first part where there are several.

    Args:
        checkpoint: of :func:`tiny.tiny_checkpoint`.
        path: the file; with several parts, ``NAME.gguf`` becomes ``NAME-00001-of-0000N.gguf`` and so on.
        without: tensors, by GGUF's names, that it lacks.
        fields: further fields, or other values of those that it has; None takes one out.
        tensors: further tensors of float32.
        parts: how many files.
        kind: type of its matrices, as gguf names it; norms stay float32.
        codes: matrices, by transformers' names, that are such codes already.
    """
    import gguf

    config, weights = _read(checkpoint)
    architecture = _KINDS[config["model_type"]]
    stored = _tensors(config, architecture, weights)
    stored = {name: value for name, value in stored.items() if name not in without}
    stored |= {name: np.array(values, np.float32) for name, values in (tensors or {}).items()}
    known_codes = {_name(config, architecture, name): value for name, value in (codes or {}).items()}
    names = list(stored)
    count = -(-len(names) // parts)
    paths = [path]
    if parts > 1:
        paths = [path.with_name(f"{path.stem}-{n:05d}-of-{parts:05d}.gguf") for n in range(1, parts + 1)]
    for number, part in enumerate(paths):
        writer = gguf.GGUFWriter(str(part), architecture)
        if parts > 1:
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", parts)
            writer.add_int32("split.tensors.count", len(names))
        if number == 0:
            _write_fields(writer, _fields(config, architecture) | dict(fields or {}))
            _write_vocabulary(writer, checkpoint, config)
        for name in names[number * count : (number + 1) * count]:
            value, as_type = stored[name], gguf.GGMLQuantizationType[kind]
            if name in known_codes:
                writer.add_tensor(name, known_codes[name], raw_dtype=as_type)
            elif value.ndim < 2 or kind == "F32":
                writer.add_tensor(name, value)
            else:
                writer.add_tensor(name, gguf.quantize(value, as_type), raw_dtype=as_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths[0]


def _read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    return model.config.to_dict(), weights


def _tensors(config: Mapping[str, Any], architecture: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    stored = {}
    for name, value in weights.items():
        stem, _, suffix = name.rpartition(".")
        role = stem.rpartition(".")[2]
        if architecture == "llama" and role in heads:  # rotary halves apart
            shape, count = value.shape, heads[role]
            value = value.reshape(count, 2, shape[0] // count // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        if architecture in _NORMS_PLUS_ONE and "norm" in role and suffix == "weight":
            value = value + 1
        stored[_name(config, architecture, name)] = np.ascontiguousarray(value, np.float32)
    return stored


def _name(config: Mapping[str, Any], architecture: str, name: str) -> str:
    """GGUF's name of a tensor."""
    import gguf

    word = next(key for key, known in gguf.MODEL_ARCH_NAMES.items() if known == architecture)
    stem, _, suffix = name.rpartition(".")
    return f"{gguf.get_tensor_name_map(word, config['num_hidden_layers']).get_name(stem)}.{suffix}"


def _fields(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config["rope_parameters"]
    whole = rope.get("full_attention", rope)
    own = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "rope.freq_base": float(whole["rope_theta"]),
        "rope.dimension_count": int(width * whole.get("partial_rotary_factor", 1.0)),
        "vocab_size": config["vocab_size"],
    }
    if architecture in ("qwen3", "gemma2", "gemma3"):
        own |= {"attention.key_length": width, "attention.value_length": width}
    norm = "norm_eps" if architecture == "nemotron" else "rms_norm_eps"
    own["attention.layer_norm_rms_epsilon"] = float(config[norm])
    if config.get("sliding_window") and config["model_type"] != "mistral":
        own["attention.sliding_window"] = config["sliding_window"]
    return {f"{architecture}.{name}": value for name, value in own.items()}


def _write_fields(writer: Any, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if value is not None:
            {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)](name, value)


def _write_vocabulary(writer: Any, checkpoint: Path, config: Mapping[str, Any]) -> None:
    known = json.loads((checkpoint / "tokenizer.json").read_text())
    words = {number: word for word, number in known["model"]["vocab"].items()}
    special = {token["id"] for token in known["added_tokens"]}
    count = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([words.get(number, f"[PAD{number}]") for number in range(count)])
    writer.add_token_types([3 if number in special else 1 for number in range(count)])
    writer.add_token_merges([" ".join(pair) for pair in known["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(1)
