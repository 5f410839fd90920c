"""Llama checkpoints of any size with random float16 weights, written one tensor at a time.

``python tests/benchmarks/synthetic.py 1.1B FOLDER``
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import _tokenizer


@dataclass(frozen=True)
class Size:
    """The shape of a Llama; heads have 64 features and four of them share keys and values."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every weight; the head is no copy of the embedding."""
        hidden, kv = self.hidden, self.hidden // 4
        yield "model.embed_tokens.weight", (self.vocabulary, hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (hidden,)
            yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
            yield prefix + "self_attn.k_proj.weight", (kv, hidden)
            yield prefix + "self_attn.v_proj.weight", (kv, hidden)
            yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
            yield prefix + "post_attention_layernorm.weight", (hidden,)
            yield prefix + "mlp.gate_proj.weight", (self.intermediate, hidden)
            yield prefix + "mlp.up_proj.weight", (self.intermediate, hidden)
            yield prefix + "mlp.down_proj.weight", (hidden, self.intermediate)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (self.vocabulary, hidden)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for _, shape in self.tensors())


SIZES = {
    "0.1B": Size(768, 2048, 10, 32000),
    "0.4B": Size(1024, 4096, 22, 32000),
    "1.1B": Size(2048, 5632, 22, 32000),
}


def write_checkpoint(size: Size, folder: Path, seed: int = 0) -> None:
    """Write config, tokenizer and one safetensors file; the same size and seed give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // 64,
        "num_key_value_heads": size.hidden // 256,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _tokenizer(320).save_pretrained(folder)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in size.tensors():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, shape in size.tensors():
            if len(shape) == 1:
                stream.write(np.ones(shape, np.float16).tobytes())
                continue
            for _ in range(shape[0] // 256):
                rows = rng.standard_normal((256, shape[1]), np.float32)
                stream.write((rows * np.float32(0.02)).astype(np.float16).tobytes())
            assert shape[0] % 256 == 0 or shape[0] < 256
            if shape[0] < 256:
                stream.write((rng.standard_normal(shape, np.float32) * np.float32(0.02)).astype(np.float16).tobytes())


if __name__ == "__main__":
    write_checkpoint(SIZES[sys.argv[1]], Path(sys.argv[2]))
