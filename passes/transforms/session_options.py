"""Session options, written into genai_config.json so that what was measured is what is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass
from olivine.passes.cpu import available_cores

OPTIMIZATION_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


@dataclass(frozen=True)
class SessionOptions(ConfigPass):
    """Threads, spinning and ONNX Runtime's optimization level.

    Attributes:
        threads: intra-op threads; 0 leaves ONNX Runtime GenAI's default, which is one.
        spinning: idle threads spin; faster for one model, slower beside other work.
        optimization_level: ONNX Runtime's graph optimizations at load.
    """

    threads: int = 0
    spinning: bool = True
    optimization_level: str = "all"

    name: ClassVar[str] = "session_options"
    version: ClassVar[int] = 2
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "threads",
            "int",
            0,
            "intra-op threads; 0 takes all cores that the process may use",
            bounds=(0, 1024),
            applies=lambda choice: choice.get("provider") == "cpu",
        ),
        Axis(
            "spinning",
            "bool",
            True,
            "let idle threads spin while they wait",
            applies=lambda c: c.get("provider") == "cpu",
        ),
        Axis(
            "optimization_level",
            "choice",
            "all",
            "ONNX Runtime's graph optimizations at load",
            tuple(OPTIMIZATION_LEVELS),
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> SessionOptions:
        """The pass; ``threads: 0`` becomes the number of cores, so that a recipe says what it ran with."""
        return cls(
            threads=int(choice.get("threads", 0)) or available_cores(),
            spinning=bool(choice.get("spinning", True)),
            optimization_level=str(choice["optimization_level"]),
        )

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with these options in the decoder's session."""
        changed: dict[str, Any] = deepcopy(dict(config))
        options = changed["model"]["decoder"].setdefault("session_options", {})
        if self.threads:
            options["intra_op_num_threads"] = self.threads
        if self.spinning:
            options.pop("session.intra_op.allow_spinning", None)
        else:
            options["session.intra_op.allow_spinning"] = "0"
        options["graph_optimization_level"] = OPTIMIZATION_LEVELS[self.optimization_level]
        return changed
