"""``olivine import-olive``: the study that means what a workflow of Olive means, and what of it has no counterpart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.export.export import float_refusal
from olivine.passes.providers import PROVIDERS
from olivine.search.config.language import parse_config
from olivine.search.config.space_mistakes import choice_mistakes, space_mistakes
from olivine.search.planning.olive.goals import goals_of, tasks_of, text_of_workflow
from olivine.search.planning.olive.model import Notes, model_of, provider_of
from olivine.search.planning.olive.passes import meaning
from olivine.search.planning.olive.workflow import OlivePass, Workflow, mapping, read_workflow
from olivine.search.planning.presets import SearchScope, preset

Values = dict[str, tuple[Scalar, ...]]
#: Candidates of a search whose workflow gives no number.
USUAL_TRIALS = 40
_SAMPLERS = {"tpe": "tpe", "random": "random", "exhaustive": "exhaustive", "sequential": "exhaustive"}
#: Keys of the engine and of the top -> why they have no counterpart.
_REST = {
    "output_name": "a study folder has fixed names",
    "clean_cache": "the cache is content-addressed: what is there is right",
    "clean_evaluation_cache": "measurements are never taken from a cache",
    "cache_config": "builds are shared by cache.shared: an fsspec URL, such as az://container/builds",
    "packaging_config": "the exported folder is plain ONNX Runtime GenAI; pack it as you like",
    "log_severity_level": "olivine prints what happens; --debug shows tracebacks",
    "log_to_file": "records and report lie in the study folder; redirect what is printed",
    "ort_log_severity_level": "ONNX Runtime's log is silent unless something fails",
    "ort_py_log_severity_level": "ONNX Runtime's log is silent unless something fails",
    "no_artifacts": "the study folder is always written",
    "azureml_client": "a study runs where it is started; workers join by --storage",
    "workflow_host": "a study runs where it is started; workers join by --storage",
    "auto_optimizer_config": "olivine optimize chooses passes by itself; here a usual space stands in",
    "data_root": "files are named as they are",
    "host": "a study builds where it is started",
}
#: Keys that are read elsewhere, or mean nothing.
_SILENT = (
    "search_strategy",
    "execution_providers",
    "$schema",
    "verbose",
    "evaluate_input_model",
    "plot_pareto_frontier",
)


@dataclass(frozen=True)
class Imported:
    """A study made of a workflow.

    Attributes:
        raw: the study, as a YAML has it.
        kept: (place in the workflow, what it became).
        lost: (place in the workflow, why it has no counterpart, and what stands in).
        out: the folder that the workflow's results went to; empty where it names none.
    """

    raw: Mapping[str, Any]
    kept: tuple[tuple[str, str], ...]
    lost: tuple[tuple[str, str], ...]
    out: str

    def to_yaml(self, source: str) -> str:
        """The YAML, with everything that was lost in its header."""
        out = self.out or f"results/{self.raw['name']}"
        lines = [f"From Olive's workflow {source}, by 'olivine import-olive'.", ""]
        lines.append(f"Command: olivine run THIS_FILE --out {out}")
        listed = [f"{place}: {why}" for place, why in self.lost]
        # A workflow may come from anybody: none of its words may leave its comment line.
        header = "".join(f"# {' '.join(line.split())}".rstrip() + "\n" for line in lines)
        header += "#\n# Without a counterpart:\n" if listed else ""
        header += "".join(f"#   {' '.join(line.split())}\n" for line in listed)
        return f"{header}\n{yaml.safe_dump(dict(self.raw), sort_keys=False, allow_unicode=True)}"


def import_workflow(path: Path) -> Imported:
    """Read a workflow file and make its study.

    Raises:
        UsageError: when it can't be read, or has no causal language model.
    """
    return convert(read_workflow(path), path.stem)


def convert(workflow: Workflow, stem: str) -> Imported:
    """The study of a workflow; ``stem`` names it where the workflow has no id.

    Raises:
        UsageError: when it has no causal language model.
    """
    kept: Notes = []
    lost: Notes = []
    raw: dict[str, Any] = {"name": _name(str(workflow.rest.get("workflow_id") or stem))}
    raw |= model_of(workflow, kept, lost)
    provider = provider_of(workflow, kept, lost)
    strategy = _strategy(workflow)
    space, first = _space(workflow, provider, strategy is not None, kept, lost)
    raw["space"] = space
    searching = any(isinstance(values, list | dict) for values in space.values())
    raw |= goals_of(workflow, searching, kept, lost)
    raw["evaluation"] = {"text": text_of_workflow(workflow, kept, lost)} | tasks_of(workflow, kept)
    if len(first) > 1:
        raw["enqueue"] = first
    raw |= _stop(strategy, len(first), searching, kept, lost)
    out = _rest(workflow, raw, kept, lost)
    parse_config(raw, "the study of this workflow")
    return Imported(raw, tuple(dict.fromkeys(kept)), tuple(dict.fromkeys(lost)), out)


def _name(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-._")[:80] or "olive"


def _strategy(workflow: Workflow) -> dict[str, Any] | None:
    """The search strategy, its nested settings beside the others; None where there is no search."""
    given = workflow.rest.get("search_strategy")
    if given is True:
        return {}
    if not isinstance(given, Mapping):
        return None
    found = mapping(given)
    for key in ("search_algorithm_config", "sampler_config"):
        found |= mapping(found.pop(key, None))
    return found


def _space(
    workflow: Workflow, provider: str, searching: bool, kept: Notes, lost: Notes
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The search space over all flows, and the concrete choice of each flow that has no axis to search."""
    ways = [_way(flow, provider, searching, kept, lost) for flow in workflow.flows]
    ways = [way for index, way in enumerate(ways) if way and way not in ways[:index]]
    if not ways:
        lost.append(("passes", "nothing in it says how a model is to be built: a usual search space stands in"))
        found = preset(provider if PROVIDERS[provider].refusal("int8") is None else "cpu", "decode", "", SearchScope())
        return dict(found.space), [dict(choice) for choice in found.enqueue]
    merged: Values = {}
    for way in ways:
        for axis, values in way.items():
            merged[axis] = tuple(dict.fromkeys([*merged.get(axis, ()), *values]))
    if provider != "cpu":
        merged["provider"] = (provider,)
    for axis in [axis for axis, values in merged.items() if LANGUAGE.axes[axis].shared and len(values) > 1]:
        merged[axis] = merged[axis][:1]
    ordered = {axis: merged[axis] for axis in LANGUAGE.axes if axis in merged}
    space = _sound({axis: list(values) if len(values) > 1 else values[0] for axis, values in ordered.items()}, lost)
    first = []
    for way in ways:
        choice = {axis: values[0] for axis, values in way.items() if axis in space}
        if all(len(values) == 1 for values in way.values()) and not choice_mistakes(choice, "choice", space):
            first.append(
                {axis: value for axis, value in choice.items() if axis != "provider" and not LANGUAGE.axes[axis].shared}
            )
    return space, [choice for choice in first if choice]


def _way(flow: Sequence[OlivePass], provider: str, searching: bool, kept: Notes, lost: Notes) -> Values:
    """What a sequence of passes asks for together: later passes override, integers outlive a float export."""
    axes: Values = {}
    usual: Values = {}
    builds = False
    for one in flow:
        found = meaning(one, searching)
        if found.became:
            kept.append((one.place, found.became))
            builds = True
        lost += [(f"{one.place}{f'.{name}' if name else ''}", why) for name, why in found.lost]
        for into, given, stays in ((usual, found.usual, True), (axes, found.axes, False)):
            for axis, values in given.items():
                if axis == "precision":
                    into[axis] = _combined(into.get(axis, ()), values)
                elif not (stays and axis in into):
                    into[axis] = values
    if not builds:
        return {}
    precision = _combined(usual.pop("precision", ()), axes.pop("precision", ()))
    axes = {**usual, **axes, "precision": precision or (PROVIDERS[provider].floats[0],)}
    runs = tuple(word for word in axes["precision"] if float_refusal(provider, str(word)) is None)
    if runs != axes["precision"]:
        gone = ", ".join(str(word) for word in axes["precision"] if word not in runs)
        floats = PROVIDERS[provider].floats[0]
        lost.append(
            ("passes", f"precision {gone} does not run on {provider}; {', '.join(map(str, runs)) or floats} does")
        )
        axes["precision"] = runs or (floats,)
    return _applying(axes, provider, lost)


def _combined(before: tuple[Scalar, ...], after: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Precisions of two passes of one flow: what stays mixed, integers before floats, else the later one's."""
    if "mixed" in (*before, *after):
        return ("mixed",)
    integers = {"int8", "int4"}
    return after if integers & {*after} or (after and not integers & {*before}) else before


def _applying(axes: Values, provider: str, lost: Notes) -> Values:
    """Only the axes that exist with the values of the others."""
    left = dict(axes)
    trial: dict[str, Any] = {"provider": provider, **{axis: list(values) for axis, values in left.items()}}
    for place, why in space_mistakes(trial):
        axis = place.partition(".")[2]
        if left.pop(axis, None) is not None and LANGUAGE.axes[axis].name not in (
            "algorithm",
            "block_size",
            "symmetric",
        ):
            lost.append((f"passes ({axis})", why))
    return left


def _sound(space: dict[str, Any], lost: Notes) -> dict[str, Any]:
    """The space without axes that no combination of all flows reaches."""
    for place, why in space_mistakes(space):
        axis = place.partition(".")[2]
        if axis != "precision" and space.pop(axis, None) is not None:
            lost.append((f"passes ({axis})", why))
    return space or {"precision": "fp32"}


def _stop(strategy: Mapping[str, Any] | None, ways: int, searching: bool, kept: Notes, lost: Notes) -> dict[str, Any]:
    """Sampler, budget and seed."""
    if strategy is None:
        return {"stop": {"trials": USUAL_TRIALS if searching and not ways else max(1, ways)}}
    left = dict(strategy)
    word = str(left.pop("search_algorithm", None) or left.pop("sampler", None) or "tpe")
    raw: dict[str, Any] = {"sampler": {"name": _SAMPLERS.get(word, "auto")}, "stop": {"trials": USUAL_TRIALS}}
    kept.append(("search_strategy", f"sampler: {{name: {raw['sampler']['name']}}}"))
    if word not in _SAMPLERS:
        lost.append(("search_strategy", f"sampler '{word}': 'auto' stands in"))
    for key in ("max_samples", "num_samples", "max_iter"):
        value = left.pop(key, None)
        if isinstance(value, int) and value > 0:
            raw["stop"]["trials"] = value
            kept.append((f"search_strategy.{key}", f"stop: {{trials: {value}}}"))
    if isinstance(seconds := left.pop("max_time", None), int | float) and seconds > 0:
        raw["stop"]["timeout"] = float(seconds)
    if isinstance(seed := left.pop("seed", None), int) and 0 <= seed < 2**32:
        raw["seed"] = seed
    if (order := left.pop("execution_order", "joint")) != "joint":
        lost.append(("search_strategy.execution_order", f"{order}: all axes are searched together"))
    for key in left:
        lost.append((f"search_strategy.{key}", "a study has stop:, sampler: and select: for this"))
    return raw


def _rest(workflow: Workflow, raw: dict[str, Any], kept: Notes, lost: Notes) -> str:
    """Caches, folders and all other keys; returns the folder of the results."""
    rest = dict(workflow.rest)
    rest.pop("workflow_id", None)
    cache, out = rest.pop("cache_dir", None), rest.pop("output_dir", None)
    if isinstance(cache, str) and cache:
        raw["cache"] = {"folder": cache}
        kept.append(("cache_dir", f"cache: {{folder: {cache}}}"))
    if out:
        kept.append(("output_dir", f"olivine run ... --out {out}; the model is {out}/best"))
    for key, value in rest.items():
        if key in _SILENT or value in (None, False, "", {}, []):
            continue
        if key == "host" and workflow.target:
            continue
        lost.append((key, _REST.get(key, "olivine knows no such key of a workflow")))
    return str(out or "")


def write_study(source: Path, to: Path | None) -> tuple[Imported, str]:
    """Convert a workflow, and write its YAML where ``to`` says.

    Raises:
        UsageError: as :func:`import_workflow`; also when ``to`` exists.
    """
    if to is not None and to.exists():
        raise UsageError(f"{to} exists already; give --to another file")
    found = import_workflow(source)
    text = found.to_yaml(source.name)
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text.replace("THIS_FILE", str(to)), encoding="utf-8")
    return found, text
