"""One computation for several tensors that are written one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedTensor(Generic[T]):
    """Result of ``compute``, computed when the first of ``readers`` takes it and dropped after the last has."""

    def __init__(self, compute: Callable[[], T], readers: int) -> None:
        self._compute, self._readers, self._left = compute, readers, readers
        self._result: list[T] = []

    def take(self) -> T:
        """The result; the next reader after the last one has it computed anew."""
        result = self._result[0] if self._result else self._compute()
        self._left = (self._left or self._readers) - 1
        self._result = [result] if self._left else []
        return result
