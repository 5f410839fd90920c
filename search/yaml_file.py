"""Reading a YAML file: a mapping without repeated keys, or one message that says where it is broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from olivine.passes.errors import UsageError
from olivine.search.quantities import describe

_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader for which a key given twice is a mistake, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key has to be a word", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UsageError: when the file can't be read, is no YAML, or holds something else.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path} is no UTF-8 text: line {line} holds byte 0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {_where(error)}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} holds {describe(raw)}; a study is a mapping with at least 'model:' and 'space:'")
    return raw


def override(raw: dict[Any, Any], overrides: Mapping[str, str]) -> None:
    """Set dotted paths of ``raw`` to YAML values, as ``--set`` takes them.

    Raises:
        UsageError: when a path leads through a value that is no section, or a value is no YAML.
    """
    for dotted, text in overrides.items():
        *parents, last = dotted.split(".")
        section = raw
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            if not isinstance(section[parent], dict):
                raise UsageError(
                    f"--set {dotted}={text}: '{parent}' is no section; it holds {describe(section[parent])}"
                )
            section = section[parent]
        try:
            section[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {dotted}={text}: '{text}' is no YAML value: {_where(error)}") from error


def _where(error: yaml.YAMLError) -> str:
    """Line, column and problem of a YAML error."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    problem = error.problem or "it can't be parsed"
    if "'\\t'" in problem:
        problem = "found a tab; YAML is indented with spaces"
    elif problem == "mapping values are not allowed here":
        problem = "a second ':' on this line, or a line indented too far; quote a text that holds ': '"
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
