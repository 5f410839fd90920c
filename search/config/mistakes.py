"""What is wrong with a study's YAML, as (place, message) pairs: pydantic's findings, and ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from olivine.evaluators.metric import metrics_of
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError, did_you_mean, nearest
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.source import DEMO, DEMOS
from olivine.search.config.constraints import contradictions, parse_constraint
from olivine.search.config.quantities import describe
from olivine.search.config.space_mistakes import Mistake, choice_mistakes, differing_from_base, no_axis, space_mistakes

TEXTS = ("demo:news",)
#: A list of valid words longer than this many characters is not repeated in one message.
LONG_LIST = 80
_TEXT_FORMS = "takes demo:news, the path of a file, or a mapping with either 'file' or 'dataset'"
#: Tags of the discriminated union of ``evaluation.text``: part of pydantic's places, not of the YAML.
_TAGS = ("name", "file", "dataset")


def structure_mistakes(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Pydantic's errors in our words."""
    found = []
    for one in error.errors():
        location = _without_tags(one["loc"])
        if location[:1] in (("space",), ("enqueue",)) and len(location) > 2:
            continue  # axes: space_mistakes.py says more about them
        found.append((".".join(map(str, location)), _message(one, one["loc"], model)))
    return found


def _message(one: ErrorDetails, location: Sequence[int | str], model: type[BaseModel]) -> str:
    given, context = one["input"], one.get("ctx", {})
    match one["type"]:
        case "extra_forbidden":
            return f"unknown key. {_key_hint(str(location[-1]), location[:-1], model)}"
        case "missing":
            return f"is required: {_field_description(location, model)}"
        case "literal_error":
            return f"unknown value {_quoted(given)}. {did_you_mean(given, _words(context['expected']))}"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal" | "less_than_equal" | "less_than":
            limit = next(context[key] for key in ("ge", "le", "lt") if key in context)
            side = {"g": "at least", "l": "at most"}[one["type"][0]]
            return f"takes {side} {limit - (one['type'] == 'less_than')}; found {given}"
        case "tuple_type":
            hint = f". Write it as [{given}]" if isinstance(given, str) else ""
            return f"takes a list; found {describe(given)}{hint}"
        case "dict_type":
            if location[0] == "enqueue":
                return f"takes a choice such as {{precision: int8, block_size: 32}}; found {describe(given)}"
            return f"takes a mapping: {_field_description(location, model)}; found {describe(given)}"
        case "model_type" | "model_attributes_type":
            keys = ", ".join(_fields_at(location, model))
            return f"takes a mapping; found {describe(given)}. Available: {keys}."
        case "too_short" | "too_long":
            limit = context.get("min_length", context.get("max_length"))
            side = "at least" if "min_length" in context else "at most"
            return f"takes {side} {limit} entries; found {len(given)}"
        case "string_pattern_mismatch":
            return f"takes letters, digits, '.', '_' and '-', and starts with a letter or digit; found '{given}'"
        case "union_tag_not_found":
            return f"{_TEXT_FORMS}; found {'both' if isinstance(given, dict) else describe(given)}"
    return f"{one['msg'][0].lower()}{one['msg'][1:]}; found {describe(given)}"


def _without_tags(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if location[:2] == ("evaluation", "text") and len(location) > 2 and location[2] in _TAGS:
        return (*location[:2], *location[3:])
    return location


def _quoted(value: object) -> str:
    """A value that should have been a word; YAML makes true and false of unquoted yes, no, on and off."""
    if isinstance(value, bool):
        return f"{describe(value)} (YAML reads yes, no, on and off so; quotes keep the word)"
    return f"'{value}'"


def _words(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _key_hint(key: str, parents: Sequence[int | str], model: type[BaseModel]) -> str:
    """The nearest key of this section; or the section where the key belongs."""
    here = _fields_at(parents, model)
    if nearest(key, here) is None:
        if key in LANGUAGE.axes and not parents:
            return f"It is an axis: write it as space.{key}. Available: {', '.join(here)}."
        homes = [path for path in _paths(model) if path.rpartition(".")[2] == key]
        if homes:
            return f"Did you mean '{homes[0]}'? Available: {', '.join(here)}."
    return did_you_mean(key, here)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section among the types that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    sections = (_section(option) for option in get_args(annotation))
    return next((section for section in sections if section is not None), None)


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all keys."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if (section := _section(field.annotation)) is not None:
            yield from _paths(section, f"{prefix}{name}.")


def _model_at(location: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """The section that a place lies in, tags included: each form of a text has a key named as its tag."""
    forms: list[type[BaseModel]] = []
    for part in location:
        tagged = next((form for form in forms if part in form.model_fields), None)
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field is not None else None
        forms = [s for option in get_args(annotation) if (s := _section(option)) is not None]
        model = tagged or _section(annotation) or model
    return model


def _fields_at(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    return list(_model_at(location, model).model_fields)


def _field_description(location: Sequence[int | str], model: type[BaseModel]) -> str:
    field = _model_at(location[:-1], model).model_fields.get(str(location[-1]))
    return str(field.description) if field is not None and field.description else "see configs/demo.yaml"


def meaning_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Mistakes that need more than the types: axes, metrics, constraints; each part is checked by itself."""
    found: list[Mistake] = []
    space = raw.get("space")
    if isinstance(space, dict):
        found += space_mistakes(space)
    enqueue = raw.get("enqueue")
    for index, choice in enumerate(enqueue if isinstance(enqueue, list) else []):
        place = f"enqueue.{index}"
        if isinstance(choice, dict):
            others = space if isinstance(space, dict) else {}
            found += choice_mistakes(choice, place, others) if choice else [(place, no_axis())]
            found += differing_from_base(choice, place, others)
    found += _demo_mistakes(raw)
    found += _provider_mistakes(raw.get("providers"))
    found += goal_mistakes(raw, ("tpot_ms", "perplexity_ratio"), metrics_of("language"))
    return found + _gpu_memory_mistakes(raw)


def goal_mistakes(raw: Mapping[Any, Any], usual: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    """Mistakes in objectives, constraints and selection.

    Args:
        raw: the parsed YAML.
        usual: the objectives where none are named.
        known: the metrics that such a study has.
    """
    found: list[Mistake] = []
    objectives = _strings(raw.get("objectives"))
    found += _metric_mistakes(objectives, "objectives", known)
    found += [
        (f"objectives.{index}", f"names '{name}' twice")
        for index, name in objectives
        if name in [before for _, before in objectives[:index]]
    ]
    found += _constraint_mistakes(_strings(raw.get("constraints")), "constraints", known)
    if isinstance(select := raw.get("select"), dict):
        names = [name for _, name in objectives] or usual
        found += _select_mistakes(select, names, known)
    return found


def _provider_mistakes(providers: object) -> list[Mistake]:
    """Providers that nobody knows, and interpreters that are not there."""
    found: list[Mistake] = []
    for name, given in (providers if isinstance(providers, dict) else {}).items():
        if name not in PROVIDERS:
            found.append((f"providers.{name}", f"unknown provider '{name}'. {did_you_mean(name, PROVIDERS)}"))
            continue
        python = given.get("python") if isinstance(given, dict) else None
        if isinstance(python, str) and shutil.which(str(Path(python).expanduser())) is None:
            cure = f"'olivine provider add {name}' makes envs/{name}/bin/python"
            found.append((f"providers.{name}.python", f"'{python}' is no program that runs here; {cure}"))
    return found


def _gpu_memory_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Goals that name the GPU's memory in a space of candidates that run elsewhere, where nothing measures it."""
    space, select = raw.get("space"), raw.get("select")
    given = space.get("provider", "cpu") if isinstance(space, dict) else "cpu"
    elsewhere = sorted({str(p) for p in (given if isinstance(given, list) else [given])} - {"cuda"})
    if not elsewhere:
        return []
    places = [
        (f"{part}.{index}", text) for part in ("objectives", "constraints") for index, text in _strings(raw.get(part))
    ]
    if isinstance(select, dict):
        places += [(f"select.where.{index}", text) for index, text in _strings(select.get("where"))]
    what = (
        f"is measured on CUDA only, and candidates run on {', '.join(elsewhere)} too. Name provider: cuda in space, or"
    )
    return [
        (place, f"'gpu_memory_bytes' {what} ask for peak_rss_bytes")
        for place, text in places
        if text.strip().startswith("gpu_memory_bytes")
    ]


def _demo_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Demo models and texts that do not exist; other names are looked up when the study starts."""
    evaluation = raw.get("evaluation")
    text = evaluation.get("text") if isinstance(evaluation, dict) else None
    found = []
    for place, name, known in (
        ("model", raw.get("model"), [DEMO + model for model in DEMOS]),
        ("evaluation.text", text, TEXTS),
    ):
        if isinstance(name, str) and name.startswith(DEMO) and name not in known:
            found.append((place, f"unknown demo '{name}'. {did_you_mean(name, known)}"))
    return found


def _select_mistakes(select: Mapping[Any, Any], objectives: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    found = _constraint_mistakes(_strings(select.get("where")), "select.where", known)
    if isinstance(metric := select.get("metric"), str) and metric not in known:
        found.append(("select.metric", f"unknown metric '{metric}'. {did_you_mean(metric, known)}"))
    weights = select.get("weights") or {}
    if not isinstance(weights, dict):
        return found
    found += [
        (f"select.weights.{name}", f"is no objective of this study. {did_you_mean(name, objectives)}")
        for name in weights
        if name not in objectives
    ]
    by = select.get("by", "objective")
    if by == "weights" and not any(weights.values()):
        lack = "are all 0" if weights else "are required by 'by: weights'"
        found.append(("select.weights", f"{lack}: give one for each of {', '.join(objectives)}"))
    if by != "weights" and weights:
        found.append(("select.weights", f"have no effect with 'by: {by}'; write 'by: weights'"))
    if by in ("knee", "weights") and select.get("metric") is not None:
        found.append(("select.metric", f"has no effect with 'by: {by}'; write 'by: objective'"))
    return found


def _strings(value: object) -> list[tuple[int, str]]:
    """The texts of a list with their places in it."""
    items = enumerate(value) if isinstance(value, list) else ()
    return [(index, item) for index, item in items if isinstance(item, str)]


def _metric_mistakes(names: Sequence[tuple[int, str]], place: str, known: Sequence[str]) -> list[Mistake]:
    return [
        (f"{place}.{index}", f"unknown metric '{name}'. {did_you_mean(name, known)}")
        for index, name in names
        if name not in known
    ]


def _constraint_mistakes(texts: Sequence[tuple[int, str]], place: str, known: Sequence[str]) -> list[Mistake]:
    found, good = [], []
    for index, text in texts:
        try:
            good.append(parse_constraint(text, known))
        except UsageError as error:
            found.append((f"{place}.{index}", str(error)))
    return found + [(place, message) for message in contradictions(good)]


def report(mistakes: Sequence[Mistake], raw: Mapping[Any, Any], where: str) -> str:
    """All mistakes as one message, in the order of the YAML; a long list of words is given once."""
    order = {str(key): index for index, key in enumerate(raw)}
    lines, listed = [], set()
    for place, message in sorted(dict.fromkeys(mistakes), key=lambda m: order.get(m[0].split(".")[0], -1)):
        hint, available, words = message.partition("Available: ")
        if len(words) > LONG_LIST and words in listed:
            message = hint.rstrip() if "Did you mean" in hint else f"{hint}{available}as above."
        listed.add(words)
        lines.append(f"  {place}: {message}")
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return "\n".join([f"{where}: {count}", *lines])
