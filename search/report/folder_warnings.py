"""What ``bench`` and ``eval`` warn of: each sentence names the folder and the cure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.evaluators.latency.warnings import oversubscribed, too_short
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.servers.provider import CPU
from olivine.passes.artifact import GENAI_CONFIG, MANIFEST
from olivine.passes.cpu import available_cores

Results = Mapping[str, Sequence[Measurement]]


def bench_cautions(results: Results, base: str) -> list[str]:
    """Threads, noise, and what each measurement itself was doubtful of."""
    found = [*thread_warnings(results, base), *head_warnings(results, base), *noise_warnings(results)]
    for name, measurements in results.items():
        own = dict.fromkeys(c for m in measurements for c in m.protocol.get("cautions", ()))
        found += [f"{name}: {caution}" for caution in own]
    return found


def thread_warnings(results: Results, base: str) -> list[str]:
    """For every folder with more threads than cores, or with others than the reference."""
    ran = {name: found[0].protocol for name, found in results.items() if found and "threads" in found[0].protocol}
    cores = available_cores()
    on_cpu = {name: protocol["threads"] for name, protocol in ran.items() if protocol["provider"] == CPU}
    crowded = [(name, oversubscribed(threads, cores)) for name, threads in on_cpu.items()]
    warnings = [f"{name}: {said}" for name, said in crowded if said]
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
    """For every folder that computes the logits of other positions than the reference."""
    pruned = {name: found[0].protocol.get("pruned_head") for name, found in results.items() if found}
    words = {True: "computes the last position's logits only", False: "computes the logits of every position"}
    return [
        f"{name} {words[bool(pruned[name])]}, the reference {base} {words[bool(pruned[base])]}: the prefill speedup is "
        "one of pruning as well. For a fair comparison build both with the same --set prune_head."
        for name in pruned
        if base in pruned and pruned[name] != pruned[base]
    ]


def noise_warnings(results: Results) -> list[str]:
    """For every folder with an interval much wider than was asked for."""
    warnings = []
    for name, found in results.items():
        speedups = [m for m in found if m.metric in ("ttft_speedup", "tpot_speedup")]
        protocol = speedups[0].protocol if speedups else {}
        half_width, asked = protocol.get("reached_half_width", 0.0), protocol.get("asked_half_width", math.inf)
        if half_width > 1.5 * asked:
            warnings.append(
                f"{name}: after {protocol['rounds']} rounds the intervals reach ±{half_width:.1%} without what "
                f"neighbours do, not the asked ±{asked:.1%}; other programs kept {protocol['foreign_cores']:.1f} cores "
                "busy. Give more --seconds or --rounds, or end the other programs."
            )
    return warnings


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def evaluation_cautions(results: Results, half_width: float) -> list[str]:
    """Ratios that are less precise than asked, and text that a model learned from."""
    warnings = []
    for name, found in results.items():
        metrics = {m.metric: m for m in found}
        ratio = metrics.get("perplexity_ratio")
        itself = ratio is None or set(ratio.samples) == {1.0}
        if ratio and not itself and (said := too_short((ratio.high - ratio.low) / 2, half_width, len(ratio.samples))):
            warnings.append(f"{name}: {said}")
        if found and (said := seen_in_calibration(Path(name), found[0].protocol)):
            warnings.append(f"{name}: {said}")
    return warnings


def seen_in_calibration(folder: Path, protocol: Mapping[str, Any]) -> str | None:
    """Whether the folder's manifest says that its weights were fitted to tokens of the text that it is scored on."""
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
