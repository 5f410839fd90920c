"""Reading and writing YAML: a mapping without repeated keys, or one message that says where it is broken.

Numbers are read as YAML 1.2 has them, not 1.1: ``1e-2`` is a number, ``010`` is ten, and ``1:30``, which 1.1 takes for
90, is a text.

A config may come from anybody. Tags, which name types to construct, are refused; anchors and aliases are welcome while
what they expand to stays small; size and depth are bounded.
"""

from __future__ import annotations

import codecs
import copy
import re
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
#: Byte-order mark -> the encoding that it stands for; UTF-32's begins like UTF-16's, so it comes first.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_MERGE, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("merge", "int", "float"))
_INT_TEXT = re.compile(r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)$")
#: An exponent needs a sign or a point before it: ``12e45678`` is more likely a commit than a number.
_FLOAT_TEXT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+][0-9]+"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)


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
        text = self.construct_scalar(node).replace("_", "")
        value = int(text, 0) if text.lstrip("+-").startswith(("0x", "0o", "0b")) else int(text)
        if not -(2**63) <= value < 2**63:
            raise yaml.MarkedYAMLError(None, None, "a number of more than 64 bits", node.start_mark)
        return value


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 would take for numbers."""


_UniqueKeyLoader.add_constructor(_INT, _UniqueKeyLoader.construct_yaml_int)
_UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [(tag, text) for tag, text in resolvers if tag not in (_INT, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_UniqueKeyLoader, _Dumper):
    _class.add_implicit_resolver(_INT, _INT_TEXT, list("-+0123456789"))
    _class.add_implicit_resolver(_FLOAT, _FLOAT_TEXT, list("-+.0123456789"))


def dump_yaml(value: Mapping[str, Any]) -> str:
    """A mapping as a YAML text that :func:`read_yaml` reads back."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


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
        raw = _load(decoded(content) if len(content) <= MAX_BYTES else None)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path} is no {error.encoding.upper()} text: line {line} holds byte 0x{error.object[error.start]:02x}. "
            "Save it as UTF-8."
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {_where(error)}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} holds {describe(raw)}; a study is a mapping with at least 'model:' and 'space:'")
    return raw


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 where a byte-order mark says so.

    Raises:
        UnicodeDecodeError: for bytes of another encoding.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    return content.decode("utf-8")


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
        section[last] = read_value(f"--set {dotted}=", text)
    return changed


def read_value(option: str, text: str) -> Any:
    """The value of a YAML that follows an option such as ``--set key=``.

    Raises:
        UsageError: when it is no YAML.
    """
    try:
        return _load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{option}{text}: '{text}' is no YAML value: {_where(error)}") from error


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
