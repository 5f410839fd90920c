"""PassReader: takes the parameters of one of Olive's passes apart, and notes what they mean as axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.quantize.blocks.block_format import BLOCK_SIZES
from olivine.search.planning.olive.workflow import OlivePass, sequence

#: Words that stand for "search it" and for "leave it at its default".
SEARCHABLE = ("SEARCHABLE_VALUES", "DEFAULT_SEARCHABLE_VALUES", "DEFAULT_SEARCH_VALUES")
DEFAULT = ("DEFAULT_VALUE", "DEFAULT")
#: The values that Olive searches of an axis where it is only told to search.
SEARCHED: Mapping[str, tuple[Scalar, ...]] = {
    "precision": ("int8", "int4"),
    "block_size": (16, 32, 64, 128),
    "symmetric": (True, False),
    "fusion_level": ("none", "qkv", "full"),
    "reduce_range": (False, True),
    "lm_head": ("same", "fp32"),
}
#: One scale a channel stands for the largest blocks whose kernels are fast.
_CHANNEL_BLOCK = 128

Values = dict[str, tuple[Scalar, ...]]
#: Makes a value of an axis of a value of Olive's; None where there is none.
Convert = Callable[[Any], Scalar | None]


@dataclass(frozen=True)
class Meaning:
    """A pass as axes of the search space.

    Attributes:
        axes: axis -> values; a later pass of a flow overrides an earlier one.
        fallback: the same where no pass says otherwise.
        lost: (parameter, why it has no counterpart); an empty parameter stands for the whole pass.
        became: the pass in olivine's words; empty where it has no counterpart.
    """

    axes: Values = field(default_factory=dict)
    fallback: Values = field(default_factory=dict)
    lost: tuple[tuple[str, str], ...] = ()
    became: str = ""


class PassReader:
    """Parameters of one pass, each taken at most once; those that nobody takes have no counterpart.

    Attributes:
        left: parameters that are not taken yet.
        axes: as of :class:`Meaning`, so far.
        fallback: likewise.
        became: likewise.
        searching: whether the pass is searched where its workflow searches at all.
    """

    def __init__(self, olive_pass: OlivePass, searching: bool) -> None:
        params = olive_pass.params.items()
        self.left = {name: value for name, value in params if value not in DEFAULT and value is not None}
        self.searching = searching and olive_pass.searched
        self.axes: Values = {}
        self.fallback: Values = {}
        self.became = ""
        self._lost: list[tuple[str, str]] = []

    def meaning(self) -> Meaning:
        """The meaning, with all that nobody took among the lost."""
        unread = [(name, "olivine has no such setting of this step") for name in self.left]
        return Meaning(self.axes, self.fallback, (*self._lost, *unread), self.became)

    def take(self, *names: str) -> Any:
        """The value of the first of these names that is given; the others are taken too."""
        values = [self.left.pop(name) for name in names if name in self.left]
        return values[0] if values else None

    def axis(self, axis: str, *names: str, convert: Convert, search: bool = False) -> None:
        """Take a parameter as values of an axis; with ``search`` also where it is absent and Olive would search it."""
        name = next((name for name in names if name in self.left), names[0])
        setting = self.take(*names)
        if setting is None and not (search and self.searching):
            return
        if setting is None or setting in SEARCHABLE:
            self.axes[axis] = SEARCHED[axis] if axis in SEARCHED else LANGUAGE.axes[axis].values
            return
        support = setting.get("support") if isinstance(setting, dict) else setting
        converted = [(value, convert(value)) for value in sequence(support)]
        for value, ours in converted:
            if ours is None:
                self.lose(name, f"{value!r} is no value of {axis}: {', '.join(map(str, _values(axis)))}")
        if values := [ours for _, ours in converted if ours is not None]:
            self.axes[axis] = tuple(dict.fromkeys(values))

    def lose(self, name: str, why: str) -> None:
        """Note why a parameter has no counterpart; an empty name stands for the whole pass."""
        self._lost.append((name, why))

    def drop(self, why: str, *names: str) -> None:
        """Take parameters that have no counterpart, all for one reason."""
        for name in names:
            if self.left.pop(name, None) is not None:
                self.lose(name, why)

    def blocks(self, search: bool = False) -> None:
        """Take the parameters of weights in blocks, by all their names."""
        sizes = ("block_size", "group_size", "int4_block_size", "w_group_size")
        self.axis("block_size", *sizes, convert=block_size, search=search)
        symmetric = ("is_symmetric", "sym", "int4_is_symmetric", "symmetric")
        self.axis("symmetric", *symmetric, convert=flag, search=search)
        self.axis("accuracy_level", "accuracy_level", "int4_accuracy_level", convert=accuracy_level)

    def head(self) -> None:
        """Take what is said of the head, and of layers that are left out."""
        value = self.take("lm_head")
        if value is False:
            self.axes["lm_head"] = ("fp32",)
        elif value in SEARCHABLE:
            self.axes["lm_head"] = SEARCHED["lm_head"]
        excluded = [str(node) for node in sequence(self.take("nodes_to_exclude", "excluded_modules"))]
        if any("lm_head" in node for node in excluded):
            self.axes["lm_head"] = ("fp32",)
        if others := [node for node in excluded if "lm_head" not in node]:
            why = f"single layers can't be left out ({others[0]} ...); precision: mixed gives them 8 bits"
            self.lose("nodes_to_exclude", why)


def block_size(value: Any) -> Scalar | None:
    """A size of blocks; -1 is one scale a channel."""
    if value == -1:
        return _CHANNEL_BLOCK
    return int(value) if value in BLOCK_SIZES and not isinstance(value, bool) else None


def flag(value: Any) -> Scalar | None:
    """A switch."""
    return value if isinstance(value, bool) else None


def loose_flag(value: Any) -> Scalar | None:
    """A switch that may be written as 0 or 1."""
    return bool(value)


def precision_of_bits(value: Any) -> Scalar | None:
    """Precision of so many bits."""
    return {"4": "int4", "8": "int8"}.get(str(value))


def accuracy_level(value: Any) -> Scalar | None:
    """Accuracy level by its number, or by the name of its type."""
    level = {"fp32": 1, "fp16": 2, "bf16": 3, "int8": 4}.get(str(value), value)
    return int(level) if level in LANGUAGE.axes["accuracy_level"].values and not isinstance(level, bool) else None


def precision(value: Any) -> Scalar | None:
    """Precision by one of Olive's names."""
    word = {"uint4": "int4", "uint8": "int8", "float16": "fp16", "float32": "fp32"}.get(str(value), str(value))
    return word if word in LANGUAGE.axes["precision"].values else None


def _values(axis: str) -> tuple[object, ...]:
    if LANGUAGE.axes[axis].kind == "bool":
        return ("true", "false")
    return LANGUAGE.axes[axis].values or ("numbers",)
