"""Pydantic's errors about a study's YAML, in plain words with the nearest valid key or value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from olivine.passes.errors import did_you_mean, nearest
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import describe
from olivine.search.config.sections import StudyConfig

_TEXT_FORMS = "takes demo:news, the path of a file, or a mapping with either 'file' or 'dataset'"
#: Tags of the discriminated union of a text: part of pydantic's places, not of the YAML.
_TAGS = ("name", "file", "dataset")
#: Place of a text, or of many by name or number -> parts of a place before the tag.
_BEFORE_TAG = {("evaluation", "text"): 2, ("evaluation", "other_texts"): 3, ("calibration", "texts"): 3}


def structure_mistakes(error: ValidationError, model: type[StudyConfig]) -> list[Mistake]:
    """Translate pydantic's errors, all but those in axes, of which ``space_mistakes.py`` says more."""
    places = [(_without_tags(details["loc"]), details) for details in error.errors()]
    return [
        (".".join(map(str, place)), _message(details, details["loc"], model))
        for place, details in places
        if place[0] not in ("space", "enqueue") or len(place) <= 2
    ]


def _message(error: ErrorDetails, location: Sequence[int | str], model: type[StudyConfig]) -> str:
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key. {_key_hint(str(location[-1]), location[:-1], model)}"
        case "missing":
            return f"is required: {_field_description(location, model)}"
        case "literal_error":
            return f"unknown value {_quoted(value)}. {did_you_mean(value, _words(context['expected']))}"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal" | "less_than_equal" | "less_than" | "too_short" | "too_long":
            return _limit_message(error["type"], value, context)
        case "tuple_type":
            hint = f". Write it as [{value}]" if isinstance(value, str) else ""
            return f"takes a list; found {describe(value)}{hint}"
        case "dict_type" if location[0] == "enqueue":
            return f"takes a choice such as {{precision: int8, block_size: 32}}; found {describe(value)}"
        case "dict_type":
            return f"takes a mapping: {_field_description(location, model)}; found {describe(value)}"
        case "model_type" | "model_attributes_type":
            keys = ", ".join(_fields_at(location, model))
            return f"takes a mapping; found {describe(value)}. Available: {keys}."
        case "string_pattern_mismatch" | "union_tag_not_found" | "invalid_key":
            return _form_message(error["type"], value)
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; found {describe(value)}"


def _form_message(kind: str, value: Any) -> str:
    if kind == "invalid_key":
        return f"is no key: keys are words. A decimal number has a point, such as 1.{value}"
    if kind == "union_tag_not_found":
        return f"{_TEXT_FORMS}; found {'both' if isinstance(value, dict) else describe(value)}"
    return f"takes letters, digits, '.', '_' and '-', and starts with a letter or digit; found '{value}'"


def _limit_message(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    """A number, or a list, beyond its limit."""
    match kind:
        case "greater_than_equal":
            return f"takes at least {context['ge']}; found {value}"
        case "less_than_equal":
            return f"takes at most {context['le']}; found {value}"
        case "less_than":
            return f"takes at most {context['lt'] - 1}; found {value}"
        case "too_short":
            return f"takes at least {context['min_length']} entries; found {len(value)}"
    return f"takes at most {context['max_length']} entries; found {len(value)}"


def _without_tags(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    tag = _BEFORE_TAG.get((str(location[0]), str(location[1])), len(location)) if len(location) > 1 else 1
    return (*location[:tag], *location[tag + 1 :]) if location[tag : tag + 1] and location[tag] in _TAGS else location


def _quoted(value: object) -> str:
    """A value where a word belongs; YAML makes true and false of unquoted yes, no, on and off."""
    if isinstance(value, bool):
        return f"{describe(value)} (YAML reads yes, no, on and off so; quotes keep the word)"
    return f"'{value}'"


def _words(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _key_hint(key: str, parents: Sequence[int | str], model: type[StudyConfig]) -> str:
    """The nearest key of this section; or the section where the key belongs."""
    here = _fields_at(parents, model)
    if nearest(key, here) is None:
        if key in model.catalog.axes and not parents:
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
