"""A synthetic study folder: sixteen trials with intervals, a confirmed front, a selection, a database."""

from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.passes.catalog import read_recipe
from olivine.search.records import StudyOutcome, TrialRecord
from olivine.search.study_dir import StudyDir

OBJECTIVES = ("tpot_ms", "perplexity_ratio")
CONSTRAINT = "perplexity_ratio <= 1.2"
BASE_TPOT_MS, BASE_TTFT_MS, BASE_PERPLEXITY = 19.6, 212.0, 24.7

#: params, decode speedup, prefill speedup, perplexity ratio, KL, megabytes.
CANDIDATES: list[tuple[dict[str, Any], float, float, float, float, float]] = [
    ({"precision": "fp32"}, 1.0, 1.0, 1.0, 0.0, 657),
    ({"precision": "int8", "block_size": 32, "lm_head": "int8"}, 2.41, 0.92, 1.0065, 0.0043, 270),
    ({"precision": "int4", "algorithm": "rtn", "block_size": 32}, 3.16, 0.85, 1.95, 0.74, 203),
    ({"precision": "int4", "algorithm": "gptq", "block_size": 32}, 3.09, 0.79, 1.101, 0.144, 206),
    ({"precision": "int4", "algorithm": "gptq", "block_size": 16}, 2.81, 0.84, 1.1, 0.123, 225),
    ({"precision": "mixed", "int8_share": 0.7, "block_size": 32}, 2.48, 0.96, 1.022, 0.031, 252),
    ({"precision": "mixed", "int8_share": 0.5, "block_size": 32}, 2.68, 1.02, 1.04, 0.05, 238),
    ({"precision": "mixed", "int8_share": 0.3, "block_size": 32}, 2.91, 0.98, 1.058, 0.073, 226),
    ({"precision": "int8", "activations": "int8"}, 2.24, 1.39, 1.011, 0.0113, 258),
    ({"precision": "mixed", "activations": "int8", "int8_share": 0.5}, 2.26, 1.38, 1.027, 0.036, 247),
    ({"precision": "mixed", "activations": "int8", "int8_share": 0.3}, 2.69, 1.24, 1.048, 0.056, 237),
    ({"precision": "int4", "algorithm": "k_quant", "block_size": 32}, 3.1, 0.85, 1.8, 0.62, 205),
    ({"precision": "int4", "algorithm": "gptq", "block_size": 64}, 3.2, 0.83, 1.171, 0.162, 197),
    ({"precision": "int8", "block_size": 128, "lm_head": "int8"}, 2.43, 0.95, 1.013, 0.009, 262),
    ({"precision": "int4", "algorithm": "rtn", "block_size": 128}, 3.4, 0.9, 2.54, 1.0, 197),
    (
        {"precision": "int4", "algorithm": "gptq", "block_size": 256},
        math.nan,
        math.nan,
        math.nan,
        math.nan,
        0,
    ),
]
#: Broke its constraint only after everything was measured, so that Optuna knows its values.
MEASURED_BROKEN = 14
REASON_BROKEN = "perplexity_ratio is 1.95 [1.88, 2.03]; the study asks for at most 1.2"
REASON_FAILED = "the process that built it was killed at 6.1 GB <of 6.0 GB> & left no answer"


def entry(metric: str, value: float, spread: float = 0.0, **protocol: Any) -> Measurement:
    """A measurement whose interval reaches ``spread`` to either side on a log scale."""
    low, high = value * math.exp(-spread), value * math.exp(spread)
    return Measurement(metric, METRICS[metric].unit, value, low, high, (), protocol)


def record(number: int) -> TrialRecord:
    """The record of one of the candidates."""
    params, decode, prefill, ratio, kl, megabytes = CANDIDATES[number]
    base = number == 0
    failed = math.isnan(decode)
    broken = not failed and ratio > 1.2
    latency = {"prompt_tokens": 128, "new_tokens": 32, "rounds": 24, "stopped": "half_width", "threads": 2}
    quality = {"text": "news articles", "split": "select", "windows": 12, "window_tokens": 512, "stride": 512}
    metrics: dict[str, Measurement] = {}
    if not failed:
        spread = 0.0 if base else 0.004 + 0.03 * abs(ratio - 1)
        metrics |= {
            "perplexity": entry("perplexity", BASE_PERPLEXITY * ratio, 0.04, **quality),
            "perplexity_ratio": entry("perplexity_ratio", ratio, spread, **quality),
            "kl_divergence": entry("kl_divergence", kl, 0.1, **quality) if kl else entry("kl_divergence", 0.0),
            "top1_agreement": entry("top1_agreement", 1 - 0.5 * math.tanh(kl), 0.004, **quality),
            "model_bytes": entry("model_bytes", megabytes * 1e6),
            "peak_rss_bytes": entry("peak_rss_bytes", megabytes * 1.3e6 + 9e7),
            "load_ms": entry("load_ms", 200 + megabytes, 0.05),
        }
    measured = not failed and (not broken or number == MEASURED_BROKEN)
    if measured:
        spread = 0.0 if base else 0.021
        metrics |= {
            "tpot_ms": entry("tpot_ms", BASE_TPOT_MS / decode, 0.025, **latency),
            "ttft_ms": entry("ttft_ms", BASE_TTFT_MS / prefill, 0.025, **latency),
            "tpot_speedup": entry("tpot_speedup", decode, spread, **latency),
            "ttft_speedup": entry("ttft_speedup", prefill, spread * 1.4, **latency),
            "decode_tok_s": entry("decode_tok_s", 1e3 * decode / BASE_TPOT_MS, 0.025, **latency),
        }
    reason = REASON_FAILED if failed else REASON_BROKEN if broken else ""
    phases = {"build": 4.0 + number % 5, "quality": 7.5}
    if measured:
        phases["latency"] = 12.0 + number % 3
    return TrialRecord(
        number=number,
        state="failed" if failed else "infeasible" if broken else "complete",
        reason=reason,
        params=params,
        recipe=read_recipe(
            [{"name": "export", "params": {"fuse_qkv": True}}, {"name": "weight_only", "params": params}]
        ),
        recipe_key=f"{number:012x}",
        passes=[{"name": "export", "params": {"fuse_qkv": True}, "seconds": 9.5, "cached": number > 0}],
        build_seconds=phases["build"],
        build_peak_rss_bytes=890_000_000,
        evaluate_seconds=0.0 if failed else sum(phases.values()) - phases["build"],
        metrics=metrics,
        constraints={} if failed else {CONSTRAINT: (ratio - 1.2) / 1.2},
        provider="cpu",
        versions={"onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0"},
        started=f"2026-11-22T13:{number:02d}:00+00:00",
        phases={"build": phases["build"]} if failed else phases,
    )


def records() -> list[TrialRecord]:
    """All sixteen."""
    return [record(number) for number in range(len(CANDIDATES))]


def write_study(root: Path, trials: list[TrialRecord] | None = None, *, ended: bool = True) -> StudyDir:
    """A study folder of ``trials``; ``ended`` adds the front and the selection."""
    chosen = records() if trials is None else trials
    study = StudyDir(root)
    root.mkdir(parents=True)
    study.config_path.write_text(
        "name: demo\nmodel: demo:smollm2-135m-instruct\nobjectives: [tpot_ms, perplexity_ratio]\n"
        f"constraints: ['{CONSTRAINT}']\n"
    )
    study.environment_path.write_text(
        json.dumps(
            {
                "cpu": "AMD EPYC 9R14 <test>",
                "cores": 2,
                "memory_bytes": 24_000_000_000,
                "threads": 2,
                "python": "3.11.2",
                "versions": {"onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0", "optuna": "5.0.0"},
            }
        )
    )
    for trial in chosen:
        study.write_trial(trial)
    write_database(study, chosen)
    if ended:
        write_front(study, [trial for trial in chosen if trial.number in (0, 1, 5, 6, 7, 3, 12)])
    return study


def write_front(study: StudyDir, members: list[TrialRecord]) -> None:
    """front.csv and selection.json, as a study that has ended leaves them."""
    axes = list(dict.fromkeys(axis for member in members for axis in member.params))
    rows = []
    for member in members:
        row: dict[str, Any] = {"trial": member.number, "selected": member.number == 7}
        row |= {axis: member.params.get(axis, "") for axis in axes}
        for metric, found in member.metrics.items():
            row[metric] = found.value
            if metric.endswith(("_speedup", "_ratio")):
                row |= {f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    with study.front_path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    study.write_outcome(
        StudyOutcome(
            trial=7,
            reason="It is the knee of the confirmed front: furthest from the chord between its ends.",
            warnings=("prefill is 0.98x of the base: this candidate gains in decode only",),
            confirmed={member.number: member.metrics for member in members},
            rebuild="olivine build demo:smollm2-135m-instruct --to best --set precision=mixed",
            default_threads={
                "tpot_speedup": entry("tpot_speedup", 0.8, 0.02),
                "ttft_speedup": entry("ttft_speedup", 0.54, 0.02),
            },
        )
    )


def write_database(study: StudyDir, trials: list[TrialRecord]) -> optuna.Study:
    """The optuna study that these records would have come from."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(
        storage=f"sqlite:///{study.database_path}", study_name="demo", directions=["minimize", "minimize"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names(list(OBJECTIVES))
    axes = {axis for trial in trials for axis in trial.params}
    seen = {axis: [t.params[axis] for t in trials if axis in t.params] for axis in axes}
    distributions = {axis: CategoricalDistribution(list(dict.fromkeys(values))) for axis, values in seen.items()}
    for trial in trials:
        # As in a real study the base has no searched parameters.
        params = trial.params if trial.number else {}
        measured = all(objective in trial.metrics for objective in OBJECTIVES)
        pruned = TrialState.PRUNED if trial.state == "infeasible" else TrialState.FAIL
        made.add_trial(
            create_trial(
                state=TrialState.COMPLETE if measured else pruned,
                values=[trial.value(objective) for objective in OBJECTIVES] if measured else None,
                params=dict(params),
                distributions={axis: distributions[axis] for axis in params},
                system_attrs={f"constraints:{name}": excess for name, excess in trial.constraints.items()},
            )
        )
    return made
