"""The catalog of answers is that of the commands, and its schema and README are in step."""

from __future__ import annotations

import argparse
import re

import jsonschema

from olivine.search.answers.catalog import SCHEMA, SHAPES, schema, to_text
from olivine.search.cli.commands import all_commands


def test_every_command_with_the_option_has_a_shape_and_every_shape_a_command() -> None:
    answering = set()
    for command in all_commands():
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        if any("--json" in action.option_strings for action in parser._actions):
            answering.add(command.name)
    names = {re.sub(r" (--.*|[A-Z]+)$", "", command) for command in SHAPES}
    assert names == answering


def test_the_schema_file_is_in_sync() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == to_text(), "run: python -m olivine.search.answers.catalog"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_readme_names_every_command_with_its_shape() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", SCHEMA.with_name("README.md").read_text(), re.MULTILINE)
    told: dict[str, str] = {}
    for commands, words in rows:
        names, shapes = re.findall(r"`(.*?)`", commands), re.findall(r"`([A-Z]\w+)`", words)
        told |= dict(zip(names, shapes if len(shapes) == len(names) else shapes[:1] * len(names), strict=True))
    assert told == {command: shape.__name__ for command, shape in SHAPES.items()}


def test_every_field_with_a_quantity_has_its_unit_in_its_name() -> None:
    """Floats that are no share, probability, ratio or count of nats are bytes or seconds."""
    units = ("_bytes", "_seconds", "seconds", "_share", "_probability", "nats_per_token", "nats_per_token_at_export")
    plain = {"value", "low", "high", "largest_difference", "kl_divergence", "top1_agreement", "cosine_distance"}
    wrong = [
        f"{name}.{field}"
        for name, shape in schema()["$defs"].items()
        for field, about in shape.get("properties", {}).items()
        if "number" in (about.get("type"), *(part.get("type") for part in about.get("anyOf", ())))
        and not field.endswith(units)
        and field not in plain
    ]
    assert wrong == []
