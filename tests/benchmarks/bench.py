"""``make bench``: speed and memory as ratios measured side by side in one run, on the demo model.

Each job runs in a process of its own, in turn, several times; what is compared differs only in the job. Times start
after the imports. Writes the table to the file that is given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from olivine.evaluators.arm import Arm
from olivine.evaluators.latency import PairedLatency
from olivine.evaluators.procfs import peak_rss_bytes
from olivine.evaluators.text import TextSource, tokenize
from olivine.evaluators.windows import TextProtocol, draw
from olivine.passes.artifact import digest
from olivine.passes.cache import Cache, cache_root
from olivine.passes.pipeline import build
from olivine.passes.recipe import compose
from olivine.passes.source import resolve
from olivine.search.environment import describe_environment

MODEL = "demo:smollm2-135m-instruct"
CANDIDATES = {
    "int4 rtn, block 32": {"precision": "int4"},
    "int8 rtn, block 32": {"precision": "int8"},
    "int4 k_quant, block 32": {"precision": "int4", "algorithm": "k_quant"},
}
BUILDER = {
    "int4 rtn, block 32": ("int4", ["algo_config=rtn", "block_size=32"]),
    "int8 rtn, block 32": ("int8", ["algo_config=rtn", "block_size=32"]),
    "int4 k_quant, block 32": ("int4", ["algo_config=k_quant", "block_size=32"]),
}


def job_olivine(name: str) -> float:
    """Seconds of a warm candidate: the float graph is there, the candidate is not."""
    import torch  # noqa: F401 - a spare build process has it imported

    source, shared = resolve(MODEL), cache_root() / "artifacts"
    base = build(source, compose({}), Cache(cache_root())).artifact
    with tempfile.TemporaryDirectory(dir=cache_root()) as scratch:
        cache = Cache(Path(scratch))
        (cache.root / "artifacts").mkdir()
        # The base is two stages: the export and its session options; both are linked into an otherwise empty cache.
        for key in (digest(["source", source.key]), *_stages_of(base.key, shared)):
            shutil.copytree(shared / key, cache.root / "artifacts" / key, copy_function=os.link)
        start = time.perf_counter()
        build(source, compose(CANDIDATES[name]), cache)
        return time.perf_counter() - start


def _stages_of(key: str, shared: Path) -> list[str]:
    """Entries of the cache that share the weights of ``key`` by hard links, itself included."""
    weights = (shared / key / "model" / "model.onnx.data").stat().st_ino
    found = [p.parent.parent.name for p in shared.glob("*/model/model.onnx.data") if p.stat().st_ino == weights]
    return sorted(found)


def job_builder(name: str) -> float:
    """Seconds of the same candidate by ONNX Runtime GenAI's model builder, from the same checkpoint."""
    from onnxruntime_genai.models import builder

    checkpoint = str(cache_root() / "artifacts" / digest(["source", resolve(MODEL).key]) / "model")
    precision, options = BUILDER[name]
    with tempfile.TemporaryDirectory(dir=cache_root()) as scratch, contextlib.redirect_stdout(sys.stderr):
        start = time.perf_counter()
        extra = builder.parse_extra_options("", checkpoint, scratch, precision, "cpu", scratch + "/c", options)
        builder.create_model("", checkpoint, scratch, precision, "cpu", scratch + "/c", **extra)
        return time.perf_counter() - start


JOBS: dict[str, Callable[[str], float]] = {"olivine": job_olivine, "builder": job_builder}


def run_job(kind: str, name: str) -> tuple[float, float]:
    """(seconds, peak RSS in MB) of one job in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", kind, name], capture_output=True, text=True, check=True, stdin=None
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["peak_rss_bytes"] / 1e6


def builds(repeat: int) -> list[str]:
    """Rows: candidate builds against the model builder, in turn."""
    rows = [
        "| candidate | builder s | olivine s | times faster | builder MB | olivine MB | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in CANDIDATES:
        pairs = [(run_job("builder", name), run_job("olivine", name)) for _ in range(repeat)]
        theirs, ours = (statistics.median(p[i][0] for p in pairs) for i in (0, 1))
        their_mb, our_mb = (statistics.median(p[i][1] for p in pairs) for i in (0, 1))
        faster = statistics.median(p[0][0] / p[1][0] for p in pairs)
        cells = (f"{theirs:.1f}", f"{ours:.1f}", f"{faster:.1f}x", f"{their_mb:.0f}", f"{our_mb:.0f}")
        rows.append(f"| {name} | {' | '.join(cells)} | {our_mb / their_mb:.2f}x |")
    return rows


def same_against_itself(repeat: int, seconds: float) -> list[str]:
    """Rows: the base against a second process of itself."""
    base = build(resolve(MODEL), compose({}), Cache(cache_root())).artifact
    rows = ["| run | decode | prefill | rounds |", "|---|---|---|---|"]
    with Arm.open(base.path) as reference:
        for run in range(repeat):
            with Arm.open(base.path) as candidate:
                found = {
                    m.metric: m for m in PairedLatency(max_seconds=seconds, seed=run).evaluate(candidate, reference)
                }
            cells = [
                f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in (found["tpot_speedup"], found["ttft_speedup"])
            ]
            rows.append(f"| {run + 1} | {cells[0]} | {cells[1]} | {found['tpot_ms'].protocol['rounds']} |")
    return rows


def scoring(repeat: int) -> list[str]:
    """Rows: tokens a second while scoring, against prefill alone on the same windows in the same process."""
    base = build(resolve(MODEL), compose({}), Cache(cache_root())).artifact
    text = tokenize("\n\n".join(TextSource.parse("demo:news").documents()[:40]), base.path)
    windows = draw(text, TextProtocol(512, 512), 6)
    ratios, rates = [], []
    with Arm.open(base.path) as arm, tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "reference.npz"
        arm.reference([(w.tokens, w.scored) for w in windows], stored, 512)
        for _ in range(repeat):
            bare = sum(arm.prefill(w.tokens, 1).ms[0] for w in windows) / 1e3
            start = time.perf_counter()
            for number in range(len(windows)):
                arm.score(stored, number)
            scored = time.perf_counter() - start
            ratios.append(bare / scored)
            rates.append(sum(len(w.tokens) for w in windows) / scored)
    return [
        "| scoring tok/s | share of prefill alone |",
        "|---|---|",
        f"| {statistics.median(rates):.0f} | {statistics.median(ratios):.2f} |",
    ]


def main() -> None:
    """Run every benchmark, print and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--job", nargs=2, metavar=("KIND", "NAME"))
    arguments.add_argument("--to", type=Path)
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    if options.job:
        seconds = JOBS[options.job[0]](options.job[1])
        print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak_rss_bytes("self")}))
        return
    np.set_printoptions(precision=3)
    machine = describe_environment()
    versions = ", ".join(
        f"{name} {machine['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai", "torch")
    )
    page = [
        "# Benchmarks",
        "",
        f"`make bench` on {machine['cpu']}, {machine['cores']} cores; {versions}.",
        f"The demo model (135M parameters); medians of {options.repeat} runs in turn; times start after the imports.",
        "",
        "## A warm candidate against ONNX Runtime GenAI's model builder, in-process",
        "",
        "The float graph is cached, as from the second trial of a study on; the builder reads the same checkpoint.",
        "olivine's time includes the check that the result loads and gives finite logits. Memory is peak RSS, of which",
        "olivine's holds the memory-mapped float graph.",
        "",
        *builds(options.repeat),
        "",
        "## The base against itself: speedups that should be 1, at 10 seconds a pair",
        "",
        *same_against_itself(options.repeat, 10.0),
        "",
        "## Scoring a text against running it as a prompt",
        "",
        *scoring(options.repeat),
        "",
    ]
    print("\n".join(page))
    if options.to:
        options.to.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
