"""GGUF files: what architecture they hold, and their conversion to a float checkpoint folder."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import SourceError, did_you_mean
from olivine.passes.sources.gguf.header import read_architecture

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
    """The transformers class for the file's ``general.architecture``; reads the header only.

    Raises:
        SourceError: when this is no GGUF file, or of an architecture that can't be exported.
    """
    word = read_architecture(path)
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
        with contextlib.redirect_stderr(io.StringIO()), _read_once():  # progress bars
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


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Meanwhile a GGUF file that transformers opens three times is parsed once, and its table of names is made once.

    gguf 0.19 makes three views of a memory map for each token of the vocabulary, and transformers 5.23 a table of all
    names for each module: 25 of the 30 seconds that the conversion of a model of 135M parameters took.
    """
    import gguf

    class Reader(gguf.GGUFReader):  # type: ignore[misc] # mypy skips gguf (pyproject.toml)
        """Reads with plain views of the file."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: str | None = None) -> np.ndarray:
            """``count`` values from a byte of the file on; ValueError where it ends before them."""
            order = self.byte_order if override_order is None else override_order
            return np.frombuffer(self.data, np.dtype(dtype).newbyteorder(order), int(count), int(offset))

    before = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(Reader), functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = before
