"""Warnings of ``bench`` and ``eval``: each sentence names the folder and the cure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.evaluators.latency.warnings import oversubscribed, too_short
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import SPEEDUPS
from olivine.evaluators.process.servers.provider import CPU
from olivine.passes.artifact import GENAI_CONFIG, MANIFEST
from olivine.passes.cpu import available_cores

Results = Mapping[str, Sequence[Measurement]]


def bench_warnings(results: Results, base: str) -> list[str]:
    """Warn of threads, pruned heads and noise, and repeat the warnings of each measurement."""
    warnings = [*thread_warnings(results, base), *head_warnings(results, base), *noise_warnings(results)]
    warnings += prompt_warnings(results)
    for name, measurements in results.items():
        own = dict.fromkeys(warning for m in measurements for warning in m.protocol.get("cautions", ()))
        warnings += [f"{name}: {warning}" for warning in own]
    return warnings


def thread_warnings(results: Results, base: str, cores: int | None = None) -> list[str]:
    """Warn of each folder with more threads than cores (by default this process's), or others than the reference."""
    protocols = {name: metrics[0].protocol for name, metrics in results.items() if metrics}
    ran = {name: protocol for name, protocol in protocols.items() if "threads" in protocol}
    cores = available_cores() if cores is None else cores
    on_cpu = {name: protocol["threads"] for name, protocol in ran.items() if protocol["provider"] == CPU}
    crowded = [(name, oversubscribed(threads, cores)) for name, threads in on_cpu.items()]
    warnings = [f"{name}: {sentence}" for name, sentence in crowded if sentence]
    for name, protocol in ran.items() if base in ran else ():
        ours, theirs = protocol["threads"], ran[base]["threads"]
        if ours == theirs or not protocol["provider"] == ran[base]["provider"] == CPU:
            continue
        fewer, most = (name, theirs) if ours < theirs else (base, ours)
        warnings.append(
            f"{name} ran with {_threads(ours)}, the reference {base} with {_threads(theirs)}: the speedup is "
            "one of threads as well. For a fair comparison set "
            f"model.decoder.session_options.intra_op_num_threads to {most} in {fewer}/{GENAI_CONFIG} "
            "(ONNX Runtime GenAI's default is 1)."
        )
    return warnings


def head_warnings(results: Results, base: str) -> list[str]:
    """Warn of each folder that computes the logits of other positions than the reference."""
    pruned = {name: metrics[0].protocol.get("pruned_head") for name, metrics in results.items() if metrics}
    words = {True: "computes the last position's logits only", False: "computes the logits of every position"}
    return [
        f"{name} {words[bool(pruned[name])]}, the reference {base} {words[bool(pruned[base])]}: the prefill speedup is "
        "one of pruning as well. For a fair comparison build both with the same --set prune_head."
        for name in pruned
        if base in pruned and pruned[name] != pruned[base]
    ]


def prompt_warnings(results: Results) -> list[str]:
    """Tell of each folder whose guesses were timed on fewer prompts than the scenario has."""
    timed = {
        name: (m.protocol["guesses"]["answered"], m.protocol["prompts_given"])
        for name, metrics in results.items()
        for m in metrics
        if m.metric == "tpot_ms" and "guesses" in m.protocol and "prompts_given" in m.protocol
    }
    return [
        f"{name}: its guesses were timed on answers to {answered} of the {given} prompts, evenly by length."
        for name, (answered, given) in timed.items()
        if answered < given
    ]


def noise_warnings(results: Results) -> list[str]:
    """Warn of each folder with an interval much wider than was asked for."""
    warnings = []
    for name, metrics in results.items():
        speedups = [m for m in metrics if m.metric in SPEEDUPS.values()]
        protocol = speedups[0].protocol if speedups else {}
        reached, goal = protocol.get("reached_half_width", 0.0), protocol.get("asked_half_width", math.inf)
        if reached > 1.5 * goal:
            warnings.append(
                f"{name}: after {protocol['rounds']} rounds the intervals reach ±{reached:.1%}, not the asked "
                f"±{goal:.1%}, noise of neighbours left aside; other programs kept {protocol['foreign_cores']:.1f} "
                "cores busy. Give more --seconds or --rounds, or end the other programs."
            )
    return warnings


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def evaluation_warnings(results: Results, half_width: float) -> list[str]:
    """Warn of ratios that are less precise than ``half_width``, and of text that a model learned from."""
    warnings = []
    for name, metrics in results.items():
        ratio = next((m for m in metrics if m.metric == "perplexity_ratio"), None)
        sentences = [seen_in_calibration(Path(name), metrics[0].protocol)] if metrics else []
        if ratio is not None and set(ratio.samples) != {1.0}:  # that of the reference to itself
            sentences.insert(0, too_short((ratio.high - ratio.low) / 2, half_width, len(ratio.samples)))
        warnings += [f"{name}: {sentence}" for sentence in sentences if sentence]
    return warnings


def seen_in_calibration(folder: Path, protocol: Mapping[str, Any]) -> str | None:
    """Warn where a folder is scored on text that its weights were fitted to, as its manifest says; None elsewhere."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    learned = json.loads(path.read_text(encoding="utf-8")).get("calibration")
    if not learned or learned["text"] != protocol.get("text"):
        return None
    apart = protocol.get("split") in ("select", "confirm") and learned["seed"] == protocol.get("seed")
    if apart:
        return None
    return (
        f"{protocol['windows']} windows of {learned['text']} were scored, and {learned['windows']} windows of it were "
        "learned from: its perplexity here is too good. Use --split confirm, or another text."
    )
