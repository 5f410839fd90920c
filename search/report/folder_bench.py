"""Latency and memory of model folders beside a reference: ``olivine bench``; any GenAI folder will do."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.rounds import MIN_ROUNDS
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.memory import Memory
from olivine.evaluators.metric import METRICS
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.providers.interpreters import alike
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.cpu import available_cores
from olivine.passes.errors import UsageError
from olivine.passes.sources.genai_folder import refuse_native_code
from olivine.passes.sources.json_file import read_json
from olivine.passes.transforms.prune_head import is_pruned
from olivine.search.report.folder_warnings import Results, bench_warnings
from olivine.search.report.formatting import measured_text, title
from olivine.search.report.verdict import verdict

#: Metrics that get a verdict: ratios of paired samples, and counts. Not ``load_ms``: one load is no sample.
_JUDGED = [name for name, metric in METRICS.items() if metric.relative or metric.unit == "bytes"]


def bench_folders(
    folders: Sequence[Path],
    reference: Path | None,
    prompt_tokens: int,
    new_tokens: int,
    half_width: float,
    max_seconds: float,
    rounds: int | None = None,
) -> dict[str, list[Measurement]]:
    """Measure every folder against the reference; two models at most are loaded at the same time.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: what the others are compared with; the first folder where there is none.
        prompt_tokens: length of the prompt.
        new_tokens: tokens generated after it.
        half_width: a pair ends at this half-width of the 95 % interval of both speedups, such as 0.02, without what
            neighbours on a host do.
        max_seconds: or after this long.
        rounds: or after this many rounds that count, where given.

    Returns:
        Folder -> latency and memory, the reference first; its own speedups are exactly 1.

    Raises:
        UsageError: for a folder without a model, or numbers that make no measurement; before any model loads.
        ModelProcessFailed: when a model does not load or run, naming its folder.
    """
    base, others = in_order(folders, reference)
    _check_numbers(prompt_tokens, new_tokens, half_width, max_seconds, rounds)
    for folder in (base, *others):
        check_context(folder, prompt_tokens + new_tokens, f"a prompt of {prompt_tokens} and {new_tokens} new tokens")
    latency = PairedDecoderLatency(
        prompt_tokens, new_tokens, half_width, max_seconds, baseline_times=BaselineTimes(), max_rounds=rounds
    )
    memory = Memory(prompt_tokens)

    def measure(process: ModelProcess, beside: ModelProcess) -> list[Measurement]:
        found = memory.evaluate(process, beside)
        found += latency.evaluate(process, beside)
        assert process.folder is not None
        return [stamped(measurement, process, pruned_head=is_pruned(process.folder)) for measurement in found]

    options = alike([base, *others])
    with ModelProcess.open(base, **options[base]) as resident:
        results = {str(base): measure(resident, resident)}
        for folder in others:
            with ModelProcess.open(folder, **options[folder]) as process:
                results[str(folder)] = measure(process, resident)
    return results


def in_order(folders: Sequence[Path], reference: Path | None) -> tuple[Path, list[Path]]:
    """The reference (the first folder where none is given), and every other folder once.

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


def read_genai_config(folder: Path) -> dict[str, Any]:
    """The genai_config.json of a model folder.

    Raises:
        UsageError: when there is none, or it names no model.
    """
    path = folder / GENAI_CONFIG
    if not path.is_file():
        what = f"has no {GENAI_CONFIG}" if folder.is_dir() else "is no folder"
        raise UsageError(
            f"{folder} {what}: this takes an ONNX Runtime GenAI folder, such as `olivine export` and "
            "`olivine build` make."
        )
    config = read_json(path)
    refuse_native_code(config, str(folder))
    if "decoder" not in (config.get("model") or {}):
        raise UsageError(f"{path} names no model.decoder, so there is no language model to load.")
    return config


def stamped(measurement: Measurement, process: ModelProcess, **more: Any) -> Measurement:
    """The measurement with what truly ran in its protocol: provider, threads, versions."""
    loaded = process.loaded
    assert loaded is not None
    threads = available_cores() if loaded.threads == 0 else loaded.threads or 1
    ran = {"provider": loaded.provider, "threads": threads, "versions": loaded.versions}
    asked = {name: value for name, value in more.items() if value is not None}
    return replace(measurement, protocol={**measurement.protocol, **ran, **asked})


def _check_numbers(
    prompt_tokens: int, new_tokens: int, half_width: float, max_seconds: float, rounds: int | None
) -> None:
    wrong = [
        *([f"the prompt has {prompt_tokens} tokens; at least 1"] if prompt_tokens < 1 else []),
        *([f"{new_tokens} new tokens; at least 2, since decode is timed after the first"] if new_tokens < 2 else []),
        *([f"half-width {half_width:g}; above 0 and below 1, such as 0.02"] if not 0 < half_width < 1 else []),
        *([f"{max_seconds:g} seconds; above 0"] if not max_seconds > 0 else []),
        *([f"{rounds} rounds; at least {MIN_ROUNDS}"] if rounds is not None and rounds < MIN_ROUNDS else []),
    ]
    if wrong:
        raise UsageError(f"This can't be measured: {'; '.join(wrong)}.")


def bench_table(results: Results, reference: Path | None) -> Table:
    """Every folder's measurements with their intervals, and what they say against the reference, in words."""
    base = _reference_name(results, reference)
    return comparison_table(results, base, bench_warnings(results, base))


def comparison_table(results: Results, base: str | None, warnings: Sequence[str] = ()) -> Table:
    """Folders below each other, the reference as A; without a reference there are no verdicts."""
    letters = dict(zip(results, string.ascii_uppercase, strict=False))
    marks = {name: letters.get(name, f"#{index + 1}") for index, name in enumerate(results)}
    names = [f"{marks[name]}: {name}{' (reference)' if name == base else ''}" for name in results]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", caption_justify="left")
    table.title = Text("\n".join(names), style="not italic bold")
    table.add_column("")
    table.add_column("metric", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    if base is not None:
        table.add_column("verdict, 95 % interval", overflow="fold")
    against = {} if base is None else {m.metric: m for m in results[base]}
    for name, found in results.items():
        table.add_section()
        for m in sorted(found, key=lambda m: list(METRICS).index(m.metric)):
            if name == base and METRICS[m.metric].relative:  # 1 or 0 by definition
                continue
            words = ""
            if base not in (None, name) and m.metric in _JUDGED:
                words = verdict(against.get(m.metric), m)
                words = marks[name] + words.removeprefix("B") if words.startswith("B ") else words
            cells = [marks[name], title(m.metric), measured_text(m), words]
            table.add_row(*map(Text, cells[: len(table.columns)]))
    if warnings:
        table.caption = Text("\n".join(f"warning: {w}" for w in warnings), style="not italic yellow")
    return table


def _reference_name(results: Results, reference: Path | None) -> str:
    """The reference's key; the first one's where the reference was given by another spelling of its path."""
    return str(reference) if str(reference) in results else next(iter(results))


def _entry(measurement: Measurement) -> dict[str, Any]:
    return {name: getattr(measurement, name) for name in ("value", "low", "high", "unit")}


def results_json(results: Results) -> str:
    """``{DIR: {metric: {value, low, high, unit}}}``; ends that are not known (infinite) are null."""
    plain = {name: {m.metric: _finite(_entry(m)) for m in found} for name, found in results.items()}
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entry.items()
    }
