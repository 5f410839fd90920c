"""Model folders beside each other: their order, whether they can be measured, and the runtime that measured them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import LoadedProcess
from olivine.passes.cpu import available_cores
from olivine.passes.errors import UsageError
from olivine.passes.sources.genai_folder import read_genai_config


def in_order(folders: Sequence[Path], reference: Path | None) -> tuple[Path, list[Path]]:
    """Put the reference first (the first folder where there is none), and every other folder after it once.

    Raises:
        UsageError: when there is no folder at all.
    """
    named = [*([] if reference is None else [reference]), *folders]
    if not named:
        raise UsageError("Name at least one model folder.")
    unique: dict[Path, Path] = {}
    for folder in named:
        unique.setdefault(folder.resolve(), folder)
    first, *others = unique.values()
    return first, others


def check_context(folder: Path, tokens: int, what: str) -> None:
    """Refuse more tokens than the model in ``folder`` takes.

    Raises:
        UsageError: then, or when the folder is no ONNX Runtime GenAI model.
    """
    longest = int(read_genai_config(folder)["model"].get("context_length", tokens))
    if tokens > longest:
        raise UsageError(f"{folder} takes {longest} tokens; {what} are {tokens}. Ask for fewer.")


def check_room(folder: Path, context: int) -> None:
    """Refuse a scenario that a folder makes no room for.

    Raises:
        UsageError: then, or when the folder is no ONNX Runtime GenAI model.
    """
    check_context(folder, context, "the scenario's prompts and answers")
    room = int(read_genai_config(folder).get("search", {}).get("max_length", context))
    if context > room:
        raise UsageError(
            f"{folder} makes room for {room} tokens (search.max_length of its genai_config.json); the scenario's "
            f"context is {context}. Export it for that scenario, or name a shorter context."
        )


def stamped(measurements: Iterable[Measurement], process: LoadedProcess, **facts: Any) -> list[Measurement]:
    """Measurements with the runtime in their protocols: provider, threads, versions, and further facts that are known.

    Args:
        measurements: of the model that is loaded in ``process``.
        process: the model's process.
        facts: for the protocols; those that are None are left out.
    """
    loaded = process.loaded
    if loaded is None:
        raise ValueError("a process without a model has measured nothing")
    threads = available_cores() if loaded.threads == 0 else loaded.threads or 1
    runtime = {"provider": loaded.provider, "threads": threads, "versions": loaded.versions}
    known = {name: value for name, value in facts.items() if value is not None}
    return [replace(m, protocol={**m.protocol, **runtime, **known}) for m in measurements]
