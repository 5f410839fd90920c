"""GGUF files: what architecture they hold, and their conversion to a float checkpoint folder."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

from olivine.passes.errors import SourceError, did_you_mean

#: GGUF's word for an architecture -> its class: those that transformers reads and the exporter knows.
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
}
#: Value type -> struct code (GGUF specification, version 3: ggml/docs/gguf.md); 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: What transformers raises on a file whose tensors or tokenizer it does not know.
_LOAD_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def architecture(path: Path) -> str:
    """The transformers class for the file's ``general.architecture``; reads up to that field only.

    Raises:
        SourceError: when this is no GGUF file, or of an architecture that can't be exported.
    """
    try:
        with path.open("rb") as stream:
            word = _general_architecture(stream)
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise SourceError(f"{path} is not a GGUF file, or it is cut off") from error
    if word not in ARCHITECTURES:
        raise SourceError(
            f"{path}: GGUF architecture '{word}' can't be converted and exported. {did_you_mean(word, ARCHITECTURES)}"
        )
    return ARCHITECTURES[word]


def convert(path: Path, to: Path) -> None:
    """Write the model, dequantized to float32, its tokenizer and its generation config to the folder ``to``.

    Needs four bytes of memory a weight, twice.

    Raises:
        SourceError: when transformers can't read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    except _LOAD_ERRORS as error:
        raise SourceError(f"transformers can't read {path}: {type(error).__name__}: {error}") from error
    # The weights are floats now, but the model remembers GGUF as its quantization and refuses to be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)


def _general_architecture(stream: BinaryIO) -> str:
    """The value of ``general.architecture``, which writers put first but need not.

    Raises:
        KeyError: when the file has no such field or is of another kind.
    """
    magic, _, _, fields = _read(stream, "4sIQQ")
    if magic != b"GGUF":
        raise KeyError("magic")
    for _ in range(fields):
        key = _string(stream)
        (kind,) = _read(stream, "I")
        if key == "general.architecture":
            return _string(stream)
        _skip(stream, kind)
    raise KeyError("general.architecture")


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _string(stream)
    elif kind == _ARRAY:
        element, count = _read(stream, "IQ")
        for _ in range(count):
            _skip(stream, element)
    else:
        _read(stream, _SCALARS[kind])


def _string(stream: BinaryIO) -> str:
    (length,) = _read(stream, "Q")
    return bytes(stream.read(length)).decode("utf-8")


def _read(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack("<" + layout, stream.read(struct.calcsize("<" + layout)))
