"""Comparison of the name that an adapter gives its base model with the names of the model that it is exported with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
#: Folder of a model in the hub's cache: ``models--OWNER--NAME/snapshots/COMMIT``.
_CACHED = re.compile(r"models--([^/\\]+?)--([^/\\]+)")


def names_another(base: str, names: Iterable[str]) -> bool:
    """True where the name of a base is none of a model's.

    Two hub ids are one where they are equal. Where one of both is a folder, a file or a demo, its last part counts: the
    folder of a download has the model's name, and a GGUF file begins with it. Case does not count.

    Args:
        base: ``base_model_name_or_path`` of an adapter; an empty one names nothing.
        names: of the model: as it was asked for, and in reports.
    """
    return bool(base) and not any(_same(base, name) for name in names if name)


def _same(base: str, name: str) -> bool:
    if Path(base).expanduser().resolve() == Path(name).expanduser().resolve():
        return True
    first, second = _hub_id(base), _hub_id(name)
    if first and second:
        return first == second
    end, other = (_last_part(hub_id or whole) for hub_id, whole in ((first, base), (second, name)))
    return end == other or _is_gguf_of(end, other) or _is_gguf_of(other, end)


def _hub_id(name: str) -> str:
    """``owner/name`` in lower case, also of a folder in the hub's cache; empty for what is none."""
    if (cached := _CACHED.search(name)) is not None:
        return f"{cached[1]}/{cached[2]}".casefold()
    is_id = _HUB_ID.fullmatch(name) is not None and not Path(name).expanduser().exists() and not name.endswith(".gguf")
    return name.casefold() if is_id else ""


def _last_part(name: str) -> str:
    """The last part of a path or of a demo's name, in lower case."""
    return re.split(r"[/\\:]", name.rstrip("/\\"))[-1].casefold()


def _is_gguf_of(name: str, model: str) -> bool:
    """True for a GGUF file's name, which is the model's with the format behind it: ``NAME.Q4_K_M.gguf``."""
    return name.endswith(".gguf") and re.match(rf"{re.escape(model)}[.-]", name) is not None
