"""Deferred tensors: PyTorch operations that run when their result is asked for, not when they are called.

The exporter loads a whole checkpoint and merges, transposes and casts its weights before it writes the first. On
deferred tensors these calls note down what to do and know the shape and type of the result. They run when a weight's
bytes are asked for, one weight at a time, from the file: the same operations in the same order, so the same bits.

Noted down is what depends on shapes alone. What needs a value at once (a branch on a number, writing in place)
computes its operands first and goes on with ordinary tensors; writing in place into a deferred tensor is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map


class WrittenInPlace(RuntimeError):
    """Code that writes into a deferred tensor: what it wrote would be lost."""


class Deferred(torch.Tensor):
    """A tensor of known shape and type whose values are computed by :func:`computed`."""

    _compute: Callable[[], torch.Tensor]

    @staticmethod
    def __new__(cls, meta: torch.Tensor, compute: Callable[[], torch.Tensor]) -> Deferred:
        """Stand for what ``compute`` will give, which has the shape and type of ``meta``."""
        tensor: Deferred = torch.Tensor._make_wrapper_subclass(
            cls, meta.shape, strides=meta.stride(), dtype=meta.dtype, device=torch.device("cpu")
        )
        tensor._compute = compute
        return tensor

    def __init__(self, meta: torch.Tensor, compute: Callable[[], torch.Tensor]) -> None:
        """Everything is set in ``__new__``, where PyTorch makes tensors."""

    def numpy(self, *, force: bool = False) -> Any:
        """The values as an array of numpy, computed now."""
        return computed(self).numpy(force=force)

    def data_ptr(self) -> int:
        """Address of the values, computed now and held as long as this tensor lives."""
        self._held = computed(self).contiguous()
        return int(self._held.data_ptr())

    def __repr__(self) -> str:  # type: ignore[override] # torch's own has no types
        """Without values: nothing is computed to be printed."""
        return f"Deferred({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch types it as the function that switches it off
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note ``func`` down, or run it where it needs values."""
        arguments = (args, kwargs or {})
        if func._schema.is_mutable:
            raise WrittenInPlace(f"{func} writes into a tensor that stands for a weight in a file")
        try:
            shapes = func(*tree_map(_meta, arguments[0]), **tree_map(_meta, arguments[1]))
        except (NotImplementedError, RuntimeError):  # it has no rule for shapes alone
            return _run(func, arguments)
        if isinstance(shapes, torch.Tensor):
            return cls(shapes, partial(_run, func, arguments))
        if isinstance(shapes, (list, tuple)) and all(isinstance(shape, torch.Tensor) for shape in shapes):
            return [cls(shape, partial(_one_of, func, arguments, index)) for index, shape in enumerate(shapes)]
        return _run(func, arguments)


def computed(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor: a deferred one is computed, again at every call; any other is itself."""
    return tensor._compute() if isinstance(tensor, Deferred) else tensor


def _one_of(func: Any, arguments: tuple[Any, Any], index: int) -> torch.Tensor:
    tensor: torch.Tensor = _run(func, arguments)[index]
    return tensor


def _run(func: Any, arguments: tuple[Any, Any]) -> Any:
    args, kwargs = tree_map(_value, arguments)
    return func(*args, **kwargs)


def _value(x: Any) -> Any:
    return computed(x) if isinstance(x, torch.Tensor) else x


def _meta(x: Any) -> Any:
    """The argument without its values, on no device: it tells the shape of a result."""
    if isinstance(x, torch.Tensor):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return "meta" if isinstance(x, torch.device) else x


class DeferredFile:
    """A safetensors file whose tensors are read when their values are asked for; stands in for ``safe_open``."""

    def __init__(self, path: str | Path, **_: Any) -> None:
        from safetensors import safe_open

        self._path, self._open = path, safe_open
        with safe_open(path, framework="pt") as file:
            self._metadata: dict[str, str] | None = file.metadata()
            self._shapes = {name: _empty(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 - no mapping

    def keys(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self._shapes)

    def metadata(self) -> dict[str, str] | None:
        """The metadata of the file's header."""
        return self._metadata

    def get_slice(self, name: str) -> torch.Tensor:
        """The whole tensor; slices of it are noted down like any other operation."""
        return Deferred(self._shapes[name], lambda: self._read(name))

    def get_tensor(self, name: str) -> torch.Tensor:
        """The whole tensor."""
        return self.get_slice(name)

    def _read(self, name: str) -> torch.Tensor:
        with self._open(self._path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def __enter__(self) -> DeferredFile:
        """Nothing stays open between reads."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class MappedFile(DeferredFile):
    """A safetensors file whose tensors are pages of the file, read when they are used; nothing is copied."""

    def get_slice(self, name: str) -> torch.Tensor:
        """The whole tensor, mapped."""
        return self._read(name)

    get_tensor = get_slice


@contextmanager
def checkpoints_open_as(kind: type[DeferredFile]) -> Iterator[None]:
    """Let transformers open the files of a checkpoint as ``kind`` within the block."""
    from transformers import modeling_utils

    opened = modeling_utils.safe_open
    modeling_utils.safe_open = kind
    try:
        yield
    finally:
        modeling_utils.safe_open = opened


_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _empty(part: Any) -> torch.Tensor:
    return torch.empty(part.get_shape(), dtype=_TYPES[part.get_dtype()], device="meta")
