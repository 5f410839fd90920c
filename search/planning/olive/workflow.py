"""Microsoft Olive's workflow JSON, in all its shapes, as one frozen value.

The schema changed over the years: sections were nested in ``config`` and ``engine`` and are flat now, a pass was one
mapping and may be a list of alternatives, systems and evaluators are named or written where they are used. What is read
here is what Olive's documentation and its published recipes show; nothing of the workflow is ever run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.sources.json_file import read_json
from olivine.search.config.yaml_file import read_yaml

#: Ways through alternatives that are followed: beyond, the search space has all their values anyway.
MOST_FLOWS = 64
#: What belongs to a pass but is none of its parameters.
_OF_A_PASS = ("type", "config", "disable_search", "host", "evaluator", "output_name", "clean_run_cache")
#: Keys at the top that are read; the engine's own stand in ``engine`` in old files and at the top in new ones.
_READ = ("input_model", "systems", "data_configs", "evaluators", "passes", "pass_flows", "engine")


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
        """Where it stands, for messages."""
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
    raw = read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if not isinstance(raw.get("input_model"), dict):
        raise UsageError(
            f"{path} has no input_model, so it is no whole workflow of Olive: there is nothing to optimize"
        )
    return normalized(raw)


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
    return {str(key): one for key, one in value.items()} if isinstance(value, Mapping) else {}


def sequence(value: object) -> list[Any]:
    """A list, a single value as a list of it, or nothing as an empty one."""
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def flat(value: object, key: str = "config") -> dict[str, Any]:
    """A section in which what stood in ``config`` stands beside its type, as new files have it."""
    section = mapping(value)
    inner = section.pop(key, None)
    return {**section, **mapping(inner)} if isinstance(inner, Mapping) or inner is None else {**section, key: inner}


def _named(given: object, known: object) -> dict[str, Any]:
    """A section that is written where it is used, or named; the only one there is where nothing is said."""
    if isinstance(given, Mapping):
        return flat(given)
    sections = mapping(known)
    if isinstance(given, str):
        return flat(sections.get(given))
    return flat(next(iter(sections.values()))) if len(sections) == 1 else {}


def _data(given: object) -> dict[str, dict[str, Any]]:
    """Data configs by name: a list of named ones in new files, a mapping in old ones."""
    if isinstance(given, Mapping):
        return {str(name): flat(one, "params_config") for name, one in given.items()}
    found = [flat(one, "params_config") for one in sequence(given)]
    return {str(one.get("name", index)): one for index, one in enumerate(found)}


def _flows(passes: object, named: object) -> tuple[tuple[OlivePass, ...], ...]:
    """Each way through the passes: one after another, or as ``pass_flows`` names them, alternatives apart."""
    given = passes if isinstance(passes, Mapping) else {str(i): one for i, one in enumerate(sequence(passes))}
    alternatives = {str(name): _alternatives(str(name), one) for name, one in given.items()}
    orders = [[str(word) for word in sequence(flow)] for flow in sequence(named)] or [list(alternatives)]
    ways: Iterable[tuple[OlivePass, ...]] = (
        way for order in orders for way in product(*(alternatives[name] for name in order if alternatives.get(name)))
    )
    return tuple(islice(ways, MOST_FLOWS))


def _alternatives(name: str, given: object) -> list[OlivePass]:
    found = []
    for one in sequence(given):
        settings = mapping(one)
        inner = settings.get("config")
        params = {key: value for key, value in settings.items() if key not in _OF_A_PASS} | mapping(inner)
        searched = not bool(settings.get("disable_search", False))
        found.append(OlivePass(name, str(settings.get("type", "")), params, searched))
    return found
