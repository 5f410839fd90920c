"""The interface of passes: axes, parameters, and the properties that they require, add and remove.

A pass takes one of six forms, told apart by what it reads and writes:

* ``CheckpointPass``: Hugging Face checkpoint folder -> checkpoint folder (``rotate``);
* ``ExportPass``: checkpoint folder -> ONNX Runtime GenAI folder (``export``);
* ``GraphPass``: rewrites the ONNX graph in memory; tensors stay memory-mapped until they are written;
* ``ConfigPass``: edits genai_config.json only, so the weights of its output are hard links;
* ``WiringPass``: changes how a finished graph is wired; the weights of its output are hard links too;
* ``GraphFilePass``: an .onnx file that is no decoder -> an .onnx file.

``catalog.py`` lists all passes in pipeline order: the first five forms make language models, the last one graphs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from olivine.passes.kernel import Kernel

Scalar = str | int | float | bool
Choice = Mapping[str, Scalar]


@dataclass(frozen=True)
class Axis:
    """One axis of the search space, declared by the pass that reads it.

    Attributes:
        name: the word in YAML, front.csv, report and dashboard.
        kind: ``choice`` (one of ``values``), ``int`` or ``float`` (a number within ``bounds``), ``bool``.
        default: the value when a YAML does not name the axis.
        doc: one line for the JSON schema and ``olivine plan``.
        values: the valid words or numbers of a ``choice``.
        bounds: inclusive bounds of a number.
        applies: true where the axis exists, given the values of the axes before it.
        default_of: gives the default where it depends on the values of the axes before it; ``default`` is the usual
            one.
        calibrated: values of a ``choice`` whose pass learns from calibration text.
        ablated_value: the value that leaves the axis's ingredient out; None where the default does.
        base_inherits: the float base takes the value too, so that a study has one value of it, unless the base has one
            whatever is searched.
        base_value: the base's value in a study that searches several; None where a study may have one only.
        newer_default: the value of new studies that do not name the axis; None where it is ``default``.
            Recipes and study folders that do not name it mean ``default`` still.
        later: it came after version 0.1.0, so that a choice does not name it where it has its default: studies of that
            version go on proposing the same.
    """

    name: str
    kind: Literal["choice", "int", "float", "bool"]
    default: Scalar
    doc: str
    values: tuple[Scalar, ...] = ()
    bounds: tuple[float, float] | None = None
    applies: Callable[[Choice], bool] = lambda choice: True
    default_of: Callable[[Choice], Scalar] | None = None
    calibrated: tuple[Scalar, ...] = ()
    ablated_value: Scalar | None = None
    base_inherits: bool = False
    base_value: Scalar | None = None
    newer_default: Scalar | None = None
    later: bool = False

    def default_for(self, choice: Choice) -> Scalar:
        """The value when a YAML does not name the axis, given the values of the axes before it."""
        return self.default if self.default_of is None else self.default_of(choice)

    def named(self, value: Scalar, choice: Choice) -> bool:
        """True when a choice names the axis at this value, given the values of the axes before it."""
        return not self.later or value != self.default_for(choice)


@dataclass(frozen=True)
class Pass(ABC):
    """One step of a pipeline; a frozen dataclass of plain parameters."""

    name: ClassVar[str]
    #: Raised whenever the same parameters would give other bytes: it is part of every cache key.
    version: ClassVar[int] = 1
    axes: ClassVar[tuple[Axis, ...]] = ()
    requires: ClassVar[frozenset[str]] = frozenset()
    #: Parameters that version 0.1.0 did not have: those with their default are left out, so that its keys stay.
    later_params: ClassVar[frozenset[str]] = frozenset()
    #: Properties that the result has, and those that it loses.
    adds: ClassVar[frozenset[str]] = frozenset()
    removes: ClassVar[frozenset[str]] = frozenset()
    #: Packages whose version changes the output's bytes.
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir",)

    @classmethod
    @abstractmethod
    def from_choice(cls, choice: Choice) -> Pass | None:
        """The pass that these axis values ask for, or None where they ask for none."""

    def params(self) -> dict[str, Any]:
        """Parameters as plain values: what a recipe stores."""
        defaults = {field.name: field.default for field in fields(self) if field.name in self.later_params}
        return {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}

    @property
    def needs_calibration(self) -> bool:
        """True when this pass, with its parameters, learns from calibration text or samples."""
        return False

    @property
    def kernels(self) -> frozenset[Kernel]:
        """The kernels that it may store linear layers for; none where it touches no linear layer."""
        return frozenset()

    def refuse(self, properties: frozenset[str]) -> str | None:
        """The reason why this pass can't be applied to an artifact with these properties; None where it can."""
        missing = sorted(self.requires - properties)
        if missing:
            return f"pass '{self.name}' requires {', '.join(missing)}; the model is {', '.join(sorted(properties))}"
        return None


class CheckpointPass(Pass):
    """Hugging Face checkpoint folder -> checkpoint folder."""

    @abstractmethod
    def apply(self, checkpoint: Path, to: Path) -> None:
        """Write the changed checkpoint to the empty folder ``to``.

        Raises:
            PassRefused: when the model has a structure that this pass does not know.
        """


class ExportPass(Pass):
    """Hugging Face checkpoint folder -> ONNX Runtime GenAI folder."""

    @abstractmethod
    def apply(self, checkpoint: Path, to: Path) -> None:
        """Write model.onnx, its data, genai_config.json and the tokenizer to the empty folder ``to``.

        Raises:
            PassRefused: when the exporter does not know the architecture.
        """

    def reference(self) -> ExportPass:
        """The export in whose graph activations are measured, for all its variants."""
        return self


class GraphPass(Pass):
    """Rewrites the ONNX graph in memory."""

    @abstractmethod
    def rewrite(self, model: ir.Model) -> None:
        """Change ``model`` in place. New weights may be lazy tensors, computed as they are written.

        Raises:
            PassRefused: when no node fits.
        """


class ConfigPass(Pass):
    """Edits genai_config.json."""

    @abstractmethod
    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The parsed genai_config.json as this pass wants it; ``config`` stays as it is."""


class WiringPass(Pass):
    """Changes how a finished graph is wired, and none of its weights."""

    @abstractmethod
    def rewire(self, model: ir.Model) -> None:
        """Change ``model`` in place; its weights are not even read.

        Raises:
            PassRefused: when the graph has a structure that this pass does not know.
        """


@dataclass(frozen=True)
class GraphFacts:
    """Facts of a graph that its file does not tell.

    Attributes:
        architecture: transformers' model type; empty where it is not known.
        heads: attention heads; 0 where the graph has to tell.
        hidden: hidden size; likewise.
        samples: file with the samples that static ranges are learned from.
        sizes: of the graph's open axes, for the check of new graphs; None for small ones.
    """

    architecture: str = ""
    heads: int = 0
    hidden: int = 0
    samples: Path | None = None
    sizes: Mapping[str, int] | None = None


class GraphFilePass(Pass):
    """An .onnx file that is no decoder -> an .onnx file."""

    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnx-ir")
    #: False for a pass that leaves the graph as it is: the result needs no check.
    changes_graph: ClassVar[bool] = True

    @abstractmethod
    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write the changed graph to the file ``to``, its weights beside it.

        Raises:
            PassRefused: when no node fits, or the pass needs a fact that is not known.
        """

    def key_parts(self, facts: GraphFacts) -> list[str]:
        """Parts of the cache key: what the output depends on beside the graph and the parameters.

        Raises:
            PassRefused: when the pass needs a fact that is not known.
        """
        return [""]


@dataclass(frozen=True)
class PassResult:
    """Record of one pass in one build: a row of ``passes`` in a trial record.

    Attributes:
        name: of the pass.
        params: of the pass.
        seconds: that it took.
        cached: whether its result was there.
        proof: of an export, how far its graph agrees with the checkpoint; None where that was not compared.
        note: what it left undone, as a sentence; empty where nothing.
    """

    name: str
    params: Mapping[str, Any]
    seconds: float
    cached: bool
    proof: Mapping[str, Any] | None = None
    note: str = ""
