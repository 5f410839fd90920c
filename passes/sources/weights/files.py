"""The weight files of a checkpoint: which there should be, and what their tensors are called."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.artifact import link_or_copy
from olivine.passes.errors import SourceError
from olivine.passes.sources.weights.safetensors_header import read_header
from olivine.passes.store.safetensors_stream import INDEX, SINGLE

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
#: Wrappers that write their own name into those of the weights, wherever they stand.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
#: Prefixes of training tools before all names: of data parallelism, and of adapters that were merged in place.
_PREFIXES = ("module.", "base_model.model.")
#: A module that holds the whole model as ``model`` doubles this word.
_DOUBLED = "model."
_COPY_BYTES = 16_000_000


def check_shards(names: Iterable[str], where: str) -> None:
    """Refuse a checkpoint whose files promise others that are not there, or of which none is the model's.

    Args:
        names: of all its files.
        where: beginning of the message.

    Raises:
        SourceError: naming what is missing.
    """
    weights = [name for name in names if name.endswith(".safetensors")]
    if SINGLE in weights or INDEX in names or len(weights) < 2:
        return
    shards = {name: parts for name in weights if (parts := _SHARD.fullmatch(name)) is not None}
    sets = {(parts[1], parts[3]) for parts in shards.values()}
    if len(sets) != 1:
        raise SourceError(
            f"{where}: it has {len(weights)} weight files and no {INDEX} that says which tensor is in which: "
            f"{_listed(weights)}. Fetch the index too."
        )
    ((stem, count),) = sets
    wanted = [f"{stem}-{number:0{len(count)}}-of-{count}.safetensors" for number in range(1, int(count) + 1)]
    if missing := sorted(set(wanted) - set(shards)):
        lacks = f"{len(missing)} of {int(count)} weight files are missing, and so is their index"
        raise SourceError(f"{where}: {lacks}: {_listed(missing)}")


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """The names of tensors -> what they are called without the prefixes of training tools.

    A prefix goes where all names have it; the name of a wrapper goes wherever it stands.
    """
    plain = {}
    for name in names:
        plain[name] = name
        for wrapper in _WRAPPERS:
            plain[name] = plain[name].replace(wrapper, "")
    while plain and (prefix := _prefix(plain.values())):
        plain = {name: short.removeprefix(prefix) for name, short in plain.items()}
    return plain


def _prefix(names: Iterable[str]) -> str:
    """The prefix that all names have; empty where there is none."""
    present = list(names)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in present):
            return prefix
    doubled = any(name.startswith(2 * _DOUBLED) for name in present)
    return _DOUBLED if doubled and all(name.startswith(_DOUBLED) for name in present) else ""


@dataclass(frozen=True)
class WeightFiles:
    """The weight files that a checkpoint is loaded from.

    Attributes:
        folder: the folder of the files.
        names: name of each file in the folder -> as transformers expects it.
        tensors: name of each tensor as it is stored -> as it should be.
        loadable: transformers finds them, by their names or an index.
    """

    folder: Path
    names: Mapping[str, str]
    tensors: Mapping[str, str]
    loadable: bool

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> WeightFiles:
        """Read the headers of the ``*.safetensors`` among ``names``, which may bring their index or not.

        Raises:
            SourceError: for a file that is cut off or is none.
        """
        present = sorted(names)
        weights = [name for name in present if name.endswith(".safetensors")]
        headers = {name: read_header(folder / name) for name in weights}
        named = {name: name for name in weights}
        loadable = SINGLE in weights or INDEX in present
        if not loadable:
            for name in weights:
                parts = _SHARD.fullmatch(name)
                named[name] = f"model-{parts[2]}-of-{parts[3]}.safetensors" if parts else SINGLE
        tensors = without_wrappers(tensor for header in headers.values() for tensor in header)
        return cls(folder, named, tensors, loadable)

    @property
    def note(self) -> str:
        """The prefixes that were taken off the names, as a sentence; empty where none were."""
        stored, plain = next(((a, b) for a, b in self.tensors.items() if a != b), ("", ""))
        return f"its weights are named as a training tool saved them: '{stored}' is read as '{plain}'" if stored else ""

    @property
    def as_they_are(self) -> bool:
        """True when transformers finds the files and their tensors without help."""
        return not self.note and self.loadable

    def write(self, to: Path, *, link: bool) -> None:
        """Put the files into the folder ``to`` as transformers expects them, with an index where they need one.

        Args:
            to: the folder.
            link: files that stay as they are may be hard links.
        """
        index: dict[str, str] = {}
        total = 0
        for old, new in self.names.items():
            header = read_header(self.folder / old)
            renamed = {name: self.tensors[name] for name in header}
            index |= dict.fromkeys(renamed.values(), new)
            total += sum(about["data_offsets"][1] - about["data_offsets"][0] for about in header.values())
            if all(stored == plain for stored, plain in renamed.items()):
                (link_or_copy if link else shutil.copyfile)(self.folder / old, to / new)
            else:
                _write_renamed(self.folder / old, to / new, renamed)
        if not self.as_they_are and len(self.names) > 1:
            about = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
            (to / INDEX).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _write_renamed(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Copy a safetensors file, its tensors under other names."""
    with source.open("rb") as stream, target.open("wb") as copy:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
        text = json.dumps(
            {names.get(name, name): about for name, about in header.items()}, separators=(",", ":")
        ).encode()
        text += b" " * (-len(text) % 8)
        copy.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(stream, copy, _COPY_BYTES)


def _listed(names: Iterable[str]) -> str:
    present = sorted(names)
    return ", ".join(present[:4]) + (f" and {len(present) - 4} more" if len(present) > 4 else "")
