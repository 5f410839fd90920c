"""Microsoft Olive's workflow JSON, in all its shapes, as one frozen value.

The schema changed over the years: sections were nested in ``config`` and ``engine`` and are flat now, a pass was one
mapping and may be a list of alternatives, systems and evaluators are named or written where they are used. This module
reads the shapes that Olive's documentation and its published recipes show. It runs nothing of a workflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.sources.json_file import parse_json
from olivine.search.config.yaml_file import decoded, read_yaml

#: Most ways through alternatives that are followed; the search space has all values of the others anyway.
MOST_FLOWS = 64
#: Keys of a pass that are none of its parameters.
_NO_PARAMETERS = ("type", "config", "disable_search", "host", "evaluator", "output_name", "clean_run_cache")
#: Keys at the top with a field of their own. Old files have the engine's keys in ``engine``, new ones at the top.
_READ = ("input_model", "systems", "data_configs", "evaluators", "passes", "pass_flows", "engine")


@dataclass
class Notes:
    """Notes on each part of a workflow, collected while it is converted.

    Attributes:
        kept: (place, what it became).
        lost: (place, why it has no counterpart, and what stands in).
    """

    kept: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, place: str, became: str) -> None:
        """Note what a part became."""
        self.kept.append((place, became))

    def lose(self, place: str, why: str) -> None:
        """Note why a part has no counterpart."""
        self.lost.append((place, why))


@dataclass(frozen=True)
class OlivePass:
    """One pass of a workflow.

    Attributes:
        name: the workflow's own.
        type: Olive's class, as the file spells it.
        params: its parameters.
        searched: whether it may be searched, where there is a search at all.
    """

    name: str
    type: str
    params: Mapping[str, Any]
    searched: bool

    @property
    def kind(self) -> str:
        """The class in small letters, without modules and underscores: Olive does not mind them."""
        return self.type.rpartition(".")[2].lower().replace("_", "")

    @property
    def place(self) -> str:
        """Its place in the workflow, for messages."""
        return f"passes.{self.name} ({self.type})"


@dataclass(frozen=True)
class Workflow:
    """A workflow without the differences between schemas.

    Attributes:
        model_type: type of the input model in small letters, without "handler".
        model: settings of the input model.
        target: settings of the system that models are measured on; empty where none is named.
        flows: sequences of passes, one for each way through alternatives and ``pass_flows``.
        metrics: of the evaluator.
        evaluator: its other settings.
        data: name -> settings of a data config.
        rest: key -> value of everything else, the engine's keys among them.
    """

    model_type: str
    model: Mapping[str, Any]
    target: Mapping[str, Any]
    flows: tuple[tuple[OlivePass, ...], ...]
    metrics: tuple[Mapping[str, Any], ...]
    evaluator: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    rest: Mapping[str, Any]


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file: JSON, or YAML where the name ends so.

    Raises:
        UsageError: when it can't be read, or is no workflow.
    """
    raw = read_yaml(path) if path.suffix in (".yaml", ".yml") else _read_json(path)
    if not isinstance(raw.get("input_model"), dict):
        raise UsageError(
            f"{path} has no input_model, so it is no whole workflow of Olive: there is nothing to optimize"
        )
    return normalized(raw)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return parse_json(text.encode(), str(path))


def normalized(raw: Mapping[str, Any]) -> Workflow:
    """The workflow in a parsed file."""
    rest = {key: value for key, value in raw.items() if key not in _READ} | mapping(raw.get("engine"))
    model = flat(raw.get("input_model"))
    data = _data(raw.get("data_configs"))
    evaluator = _named(rest.pop("evaluator", None), raw.get("evaluators"))
    metrics = tuple(flat(metric) for metric in sequence(evaluator.pop("metrics", ())))
    systems = raw.get("systems")
    target = _named(rest.pop("target", None), systems) or _named(rest.get("host"), systems)
    return Workflow(
        model_type=str(model.pop("type", "")).lower().replace("handler", ""),
        model=model,
        target=target,
        flows=_flows(raw.get("passes"), raw.get("pass_flows")),
        metrics=metrics,
        evaluator=evaluator,
        data=data,
        rest=rest,
    )


def mapping(value: object) -> dict[str, Any]:
    """A mapping with text as keys, or an empty one."""
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}


def sequence(value: object) -> list[Any]:
    """A list, a single value as a list of it, or nothing as an empty one."""
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def flat(value: object, key: str = "config") -> dict[str, Any]:
    """A section whose nested ``config`` is merged into it, as new files have it."""
    section = mapping(value)
    inner = section.pop(key, None)
    return {**section, **mapping(inner)} if isinstance(inner, Mapping) or inner is None else {**section, key: inner}


def _named(section: object, known: object) -> dict[str, Any]:
    """A section that is written where it is used, or named; without either, the only one that there is."""
    if isinstance(section, Mapping):
        return flat(section)
    sections = mapping(known)
    if isinstance(section, str):
        return flat(sections.get(section))
    return flat(next(iter(sections.values()))) if len(sections) == 1 else {}


def _data(section: object) -> dict[str, dict[str, Any]]:
    """Data configs by name: a list of named ones in new files, a mapping in old ones."""
    if isinstance(section, Mapping):
        return {str(name): flat(entry, "params_config") for name, entry in section.items()}
    entries = [flat(entry, "params_config") for entry in sequence(section)]
    return {str(entry.get("name", index)): entry for index, entry in enumerate(entries)}


def _flows(passes: object, named: object) -> tuple[tuple[OlivePass, ...], ...]:
    """Each way through the passes: one after another, or as ``pass_flows`` names them, alternatives apart."""
    by_name = passes if isinstance(passes, Mapping) else {str(i): entry for i, entry in enumerate(sequence(passes))}
    alternatives = {str(name): _alternatives(str(name), entry) for name, entry in by_name.items()}
    orders = [[str(word) for word in sequence(flow)] for flow in sequence(named)] or [list(alternatives)]
    ways: Iterable[tuple[OlivePass, ...]] = (
        way for order in orders for way in product(*(alternatives[name] for name in order if alternatives.get(name)))
    )
    return tuple(islice(ways, MOST_FLOWS))


def _alternatives(name: str, entry: object) -> list[OlivePass]:
    passes = []
    for settings in map(mapping, sequence(entry)):
        outer = {key: value for key, value in settings.items() if key not in _NO_PARAMETERS}
        searched = not bool(settings.get("disable_search", False))
        params = outer | mapping(settings.get("config"))
        passes.append(OlivePass(name, str(settings.get("type", "")), params, searched))
    return passes
