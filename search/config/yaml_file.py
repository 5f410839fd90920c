"""Reading a YAML file: a mapping without repeated keys, or one message that says where it is broken.

A config may come from anybody. Tags, which name types to construct, are refused; anchors and aliases are welcome while
what they expand to stays small; size and depth are bounded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from olivine.passes.errors import UsageError
from olivine.search.config.quantities import describe

#: Far beyond any study: the files in configs/ have 2 kB.
MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 50
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

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if not -(2**63) <= value < 2**63:
            raise yaml.MarkedYAMLError(None, None, "a number of more than 64 bits", node.start_mark)
        return value


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _UniqueKeyLoader.construct_yaml_int)


def _load(text: str | None) -> Any:
    """The value of a YAML text; None stands for one that is too large.

    Raises:
        yaml.YAMLError: whatever is wrong with it.
    """
    if text is None:
        raise yaml.YAMLError(f"it has more than {MAX_BYTES} bytes: that is no study")
    _check_size(text)
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (ValueError, OverflowError) as error:  # a date without a calendar day, a number of thousands of digits
        raise yaml.YAMLError(f"a value can't be read: {error}") from error


def _check_size(text: str) -> None:
    """Refuse tags, deep nesting, and aliases that expand to more than a study can be; reads no value."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    nodes = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _mistake(event, f"the alias '*{event.anchor}' names no anchor before it")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag is not None:
                raise _mistake(event, f"the tag '{event.tag}' has no meaning here")
            nodes += 1
            if isinstance(event, yaml.ScalarEvent):
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            else:
                open_nodes.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before + 1
        if nodes > MAX_NODES or len(open_nodes) > MAX_DEPTH:
            raise _mistake(event, f"more than {MAX_NODES} values or {MAX_DEPTH} levels: that is no study")


def _mistake(event: Any, problem: str) -> yaml.MarkedYAMLError:
    mark = event.start_mark
    return yaml.MarkedYAMLError(None, None, problem, mark if isinstance(mark, yaml.Mark) else None)


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UsageError: when the file can't be read, is no YAML, or holds something else.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        raw = _load(content.decode("utf-8") if len(content) <= MAX_BYTES else None)
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


def override(raw: Mapping[Any, Any], overrides: Mapping[str, str]) -> dict[Any, Any]:
    """A copy of ``raw`` with dotted paths set to YAML values, as ``--set`` takes them.

    Raises:
        UsageError: when a path leads through a value that is no section, or a value is no YAML.
    """
    changed = copy.deepcopy(dict(raw))
    for dotted, text in overrides.items():
        *parents, last = dotted.split(".")
        section = changed
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            if not isinstance(section[parent], dict):
                raise UsageError(
                    f"--set {dotted}={text}: '{parent}' is no section; it holds {describe(section[parent])}"
                )
            section = section[parent]
        try:
            section[last] = _load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {dotted}={text}: '{text}' is no YAML value: {_where(error)}") from error
    return changed


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
