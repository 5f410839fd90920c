"""GGUF files: what architecture they hold, and their conversion to a float checkpoint folder."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import SourceError, did_you_mean
from olivine.passes.sources.gguf.config import ROPE_TENSORS, stated_values
from olivine.passes.sources.gguf.header import GgufHeader
from olivine.passes.sources.gguf.parts import read_parts
from olivine.passes.sources.weights.fit import LOAD_ERRORS, RANDOM, Fit

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


def read_file(path: Path) -> tuple[tuple[Path, ...], GgufHeader, str]:
    """The parts of a GGUF file, its header, and the transformers class that it holds; reads headers only.

    Raises:
        SourceError: when this is no GGUF file, lacks a part, or is of an architecture that can't be exported.
    """
    parts, header = read_parts(path)
    word = header.architecture
    if word not in ARCHITECTURES:
        raise SourceError(
            f"{path}: GGUF architecture '{word}' can't be converted and exported. {did_you_mean(word, ARCHITECTURES)}"
        )
    return parts, header, ARCHITECTURES[word]


def convert(path: Path, to: Path) -> None:
    """Write the model, dequantized to float32, its tokenizer and its generation config to the folder ``to``.

    Needs four bytes of memory a weight, twice.

    Raises:
        SourceError: when transformers can't read the file, or the file lacks tensors or has others.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    parts, header, _ = read_file(path)
    folder, name = parts[0].parent, parts[0].name
    named_mistral = header.fields.get("general.name") == "mistral"
    try:
        with contextlib.redirect_stderr(io.StringIO()), _read_once(parts, named_mistral) as read:  # progress bars
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
            config = AutoConfig.from_pretrained(folder, gguf_file=name)
            config.update(stated_values(header, config.to_dict(), _factors(read(parts[0]))))
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=name,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
            fit = replace(Fit.of(info), left_over=_left_over(header, model))
    except LOAD_ERRORS as error:
        raise SourceError(f"transformers can't read {path}: {type(error).__name__}: {error}") from error
    if mistake := fit.mistake(type(model).__name__):
        raise SourceError(f"{path}: {mistake}. {RANDOM}")
    # The weights are floats now, but the model remembers GGUF as its quantization and refuses to be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)


def _factors(reader: Any) -> dict[str, list[float]]:
    """The tensors that scale RoPE."""
    return {
        tensor.name: np.asarray(tensor.data, np.float64).tolist()
        for tensor in reader.tensors
        if tensor.name in ROPE_TENSORS
    }


def _left_over(header: GgufHeader, model: Any) -> tuple[str, ...]:
    """The tensors of the file that transformers has no place for."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=model.config.to_dict())
    known = get_gguf_hf_weights_map(model, processor).keys() | set(ROPE_TENSORS)
    return tuple(sorted(header.tensors.keys() - known))


@contextlib.contextmanager
def _read_once(parts: Sequence[Path], named_mistral: bool) -> Iterator[Callable[..., Any]]:
    """Parse a GGUF file, that transformers opens three times, once within the block, and make its table of names once.

    The first of several parts has the tensors of all. Yields the stand-in for ``GGUFReader``. A Llama of the name
    'mistral' loses it: transformers would take it for a Mistral, whose tensors gguf has no names for.

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

    @functools.cache
    def joined(path: Path | str) -> Reader:
        reader = Reader(path)
        if named_mistral:
            reader.fields.pop("general.name")
        if Path(path) == parts[0]:
            reader.tensors += [tensor for part in parts[1:] for tensor in Reader(part).tensors]
        return reader

    before = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = joined, functools.cache(gguf.get_tensor_name_map)
    try:
        yield joined
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = before
