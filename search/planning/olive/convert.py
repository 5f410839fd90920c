"""``olivine import-olive``: convert a workflow of Olive to a study, and list what has no counterpart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.search.config.load import parse_config
from olivine.search.config.yaml_file import dump_yaml
from olivine.search.planning.olive.flows import space_of
from olivine.search.planning.olive.goals import goals_of, tasks_of, text_of_workflow
from olivine.search.planning.olive.model import model_of, provider_of
from olivine.search.planning.olive.workflow import Notes, Workflow, mapping, read_workflow

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
        """The YAML; its header lists everything that has no counterpart."""
        out = self.out or f"results/{self.raw['name']}"
        lines = [f"From Olive's workflow {source}, by 'olivine import-olive'.", ""]
        lines.append(f"Command: olivine run THIS_FILE --out {shlex.quote(out)}")
        listed = [f"{place}: {why}" for place, why in self.lost]
        # A workflow may come from anybody: none of its words may leave its comment line.
        header = "".join(f"# {' '.join(line.split())}".rstrip() + "\n" for line in lines)
        header += "#\n# Without a counterpart:\n" if listed else ""
        header += "".join(f"#   {' '.join(line.split())}\n" for line in listed)
        return f"{header}\n{dump_yaml(self.raw)}"


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
    notes = Notes()
    raw: dict[str, Any] = {"name": _name(str(workflow.rest.get("workflow_id") or stem))}
    raw |= model_of(workflow, notes)
    provider = provider_of(workflow, notes)
    strategy = _strategy(workflow)
    space, first = space_of(workflow, provider, strategy is not None, notes)
    raw["space"] = space
    searching = any(isinstance(values, list | dict) for values in space.values())
    raw |= goals_of(workflow, searching, notes)
    raw["evaluation"] = {"text": text_of_workflow(workflow, notes)} | tasks_of(workflow, notes)
    if len(first) > 1:
        raw["enqueue"] = first
    raw |= _stop(strategy, len(first), searching, notes)
    more, out = _rest(workflow, notes)
    raw |= more
    parse_config(raw, "the study of this workflow")
    return Imported(raw, tuple(dict.fromkeys(notes.kept)), tuple(dict.fromkeys(notes.lost)), out)


def _name(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-._")[:80] or "olive"


def _strategy(workflow: Workflow) -> dict[str, Any] | None:
    """The search strategy, its nested settings beside the others; None where there is no search."""
    named = workflow.rest.get("search_strategy")
    if named is True:
        return {}
    if not isinstance(named, Mapping):
        return None
    strategy = mapping(named)
    for key in ("search_algorithm_config", "sampler_config"):
        strategy |= mapping(strategy.pop(key, None))
    return strategy


def _stop(strategy: Mapping[str, Any] | None, choices: int, searching: bool, notes: Notes) -> dict[str, Any]:
    """Sampler, budget and seed of a study that measures so many choices first."""
    if strategy is None:
        return {"stop": {"trials": USUAL_TRIALS if searching and not choices else max(1, choices)}}
    left = dict(strategy)
    word = str(left.pop("search_algorithm", None) or left.pop("sampler", None) or "tpe")
    raw: dict[str, Any] = {"sampler": {"name": _SAMPLERS.get(word, "auto")}, "stop": {"trials": USUAL_TRIALS}}
    notes.keep("search_strategy", f"sampler: {{name: {raw['sampler']['name']}}}")
    if word not in _SAMPLERS:
        notes.lose("search_strategy", f"sampler '{word}': 'auto' stands in")
    for key in ("max_samples", "num_samples", "max_iter"):
        value = left.pop(key, None)
        if isinstance(value, int) and value > 0:
            raw["stop"]["trials"] = value
            notes.keep(f"search_strategy.{key}", f"stop: {{trials: {value}}}")
    if isinstance(seconds := left.pop("max_time", None), int | float) and seconds > 0:
        raw["stop"]["timeout"] = float(seconds)
    if isinstance(seed := left.pop("seed", None), int) and 0 <= seed < 2**32:
        raw["seed"] = seed
    if (order := left.pop("execution_order", "joint")) != "joint":
        notes.lose("search_strategy.execution_order", f"{order}: all axes are searched together")
    for key in left:
        notes.lose(f"search_strategy.{key}", "a study has stop:, sampler: and select: for this")
    return raw


def _rest(workflow: Workflow, notes: Notes) -> tuple[dict[str, Any], str]:
    """Note what becomes of all other keys.

    Returns:
        What they add to the study, and the folder of the results.
    """
    more: dict[str, Any] = {}
    rest = dict(workflow.rest)
    rest.pop("workflow_id", None)
    cache, out = rest.pop("cache_dir", None), rest.pop("output_dir", None)
    if isinstance(cache, str) and cache:
        more["cache"] = {"folder": cache}
        notes.keep("cache_dir", f"cache: {{folder: {cache}}}")
    if out:
        notes.keep("output_dir", f"olivine run ... --out {out}; the model is {out}/best")
    for key, value in rest.items():
        if key in _SILENT or value in (None, False, "", {}, []):
            continue
        if key == "host" and workflow.target:
            continue
        notes.lose(key, _REST.get(key, "olivine knows no such key of a workflow"))
    return more, str(out or "")


def write_study(source: Path, to: Path | None) -> tuple[Imported, str]:
    """Convert a workflow, and write its YAML where ``to`` says.

    Raises:
        UsageError: as :func:`import_workflow`; also when ``to`` exists.
    """
    if to is not None and to.exists():
        raise UsageError(f"{to} exists already; give --to another file")
    study = import_workflow(source)
    text = study.to_yaml(source.name)
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text.replace("THIS_FILE", shlex.quote(str(to))), encoding="utf-8")
    return study, text
