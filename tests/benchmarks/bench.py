"""``make bench``: speed and memory as ratios measured side by side in one run, on the demo model.

Each job runs in a process of its own, in turn, several times; what is compared differs only in the job. Times start
after the imports. Writes the page to the file that is given; with ``--parts``, only these parts of it are replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import footprint
import synthetic

from olivine.evaluators.data.text_source import TextSource
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.catalog import LANGUAGE
from olivine.passes.learn.calibration import capture_hessians, hessians_key
from olivine.passes.pipeline import build, source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root, scratch_folder
from olivine.search.builds.calibration_text import CalibrationText
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


GPTQ = "int4 gptq, block 32"


def job_olivine(name: str) -> float:
    """Seconds of a warm candidate: the float graph is there (for GPTQ the Hessians too), the candidate is not."""
    import torch  # noqa: F401 - a resident build process has it imported

    source, shared, cache = resolve(MODEL), cache_root() / "artifacts", Cache(cache_root())
    base = build(source, LANGUAGE.compose({}), cache).artifact
    # The base is two stages: the export and its session options; both are linked into an otherwise empty cache.
    keys = [source_artifact(source, cache).key, *_stages_of(base.key, shared)]
    text = None
    choice = CANDIDATES.get(name, {"precision": "int4", "algorithm": "gptq"})
    if name == GPTQ:
        text = CalibrationText(windows=8).store(base, cache).key
        graph = build(source, LANGUAGE.compose({}).float_part(), cache).artifact
        capture_hessians(graph, text, cache)
        keys += [text, hessians_key(graph.key, text)]
    return _seconds_of(choice, keys, text)


def job_cold(name: str) -> float:
    """Seconds of a first candidate: the checkpoint is there, and nothing made of it."""
    import torch  # noqa: F401
    import transformers  # noqa: F401

    return _seconds_of(CANDIDATES[name], [source_artifact(resolve(MODEL), Cache(cache_root())).key], None)


def _seconds_of(choice: dict[str, str], keys: list[str], text: str | None) -> float:
    source, shared = resolve(MODEL), cache_root() / "artifacts"
    with scratch_folder("bench") as scratch:
        cache = Cache(scratch)
        (cache.root / "artifacts").mkdir()
        for key in keys:
            shutil.copytree(shared / key, cache.root / "artifacts" / key, copy_function=os.link)
        start = time.perf_counter()
        build(source, LANGUAGE.compose(choice), cache, text)
        return time.perf_counter() - start


def _stages_of(key: str, shared: Path) -> list[str]:
    """Entries of the cache that share the weights of ``key`` by hard links, itself included."""
    weights = (shared / key / "model" / "model.onnx.data").stat().st_ino
    found = [p.parent.parent.name for p in shared.glob("*/model/model.onnx.data") if p.stat().st_ino == weights]
    return sorted(found)


def job_builder(name: str) -> float:
    """Seconds of the same candidate by ONNX Runtime GenAI's model builder, from the same checkpoint."""
    from onnxruntime_genai.models import builder

    checkpoint = str(source_artifact(resolve(MODEL), Cache(cache_root())).path)
    precision, options = BUILDER[name]
    with scratch_folder("bench") as scratch, contextlib.redirect_stdout(sys.stderr):
        start = time.perf_counter()
        extra = builder.parse_extra_options("", checkpoint, str(scratch), precision, "cpu", f"{scratch}/c", options)
        builder.create_model("", checkpoint, str(scratch), precision, "cpu", f"{scratch}/c", **extra)
        return time.perf_counter() - start


JOBS: dict[str, Callable[[str], float]] = {"olivine": job_olivine, "builder": job_builder, "cold": job_cold}


@dataclass(frozen=True)
class Cost:
    """Seconds, and peak memory in MB: anonymous, and resident with the pages of mapped files."""

    seconds: float
    anonymous: float
    resident: float


def run_job(kind: str, name: str) -> Cost:
    """What one job takes in a fresh process."""
    command = [sys.executable, __file__, "--job", kind, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with footprint.Watch(process.pid) as watch:
            said, wrong = process.communicate()
        if process.returncode:
            raise RuntimeError(wrong)
    seconds = json.loads(said.splitlines()[-1])["seconds"]
    return Cost(seconds, watch.anonymous_bytes / 1e6, watch.resident_bytes / 1e6)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(part) for part in zip(*map(astuple, costs), strict=True)))


COMPARED = [
    "| candidate | builder s | olivine s | times faster | builder MB (anonymous / resident) | olivine MB | memory |",
    "|---|---|---|---|---|---|---|",
]


def _compared(name: str, pairs: Sequence[tuple[Cost, Cost]]) -> str:
    theirs, ours = (_median([pair[i] for pair in pairs]) for i in (0, 1))
    faster = statistics.median(their.seconds / our.seconds for their, our in pairs)
    cells = (
        name,
        f"{theirs.seconds:.1f}",
        f"{ours.seconds:.1f}",
        f"{faster:.1f}x",
        f"{theirs.anonymous:.0f} / {theirs.resident:.0f}",
        f"{ours.anonymous:.0f} / {ours.resident:.0f}",
        f"{ours.anonymous / theirs.anonymous:.2f}x / {ours.resident / theirs.resident:.2f}x",
    )
    return f"| {' | '.join(cells)} |"


def builds(repeat: int) -> list[str]:
    """Rows: warm candidates against the model builder, in turn."""
    rows = list(COMPARED)
    for name in CANDIDATES:
        rows.append(_compared(name, [(run_job("builder", name), run_job("olivine", name)) for _ in range(repeat)]))
    gptq = _median([run_job("olivine", GPTQ) for _ in range(repeat)])
    alone = f"{gptq.seconds:.1f} | | | {gptq.anonymous:.0f} / {gptq.resident:.0f} | |"
    return [*rows, f"| {GPTQ}, Hessians there | | {alone}"]


def cold(repeat: int) -> list[str]:
    """Rows: a first candidate, export included, against the model builder."""
    name = "int4 rtn, block 32"
    return [*COMPARED, _compared(name, [(run_job("builder", name), run_job("cold", name)) for _ in range(repeat)])]


def streaming(repeat: int) -> list[str]:
    """Rows: from checkpoint to int4 folder by the command, for models of several sizes; once each."""
    demo = source_artifact(resolve(MODEL), Cache(cache_root())).path
    rows = [
        "| model | parameters | s | s a billion | anonymous MB | resident MB |",
        "|---|---|---|---|---|---|",
    ]
    with scratch_folder("bench") as scratch:
        for name, size in [("the demo's, float32", None), *synthetic.SIZES.items()]:
            here = scratch / "one"
            checkpoint = demo if size is None else here / "checkpoint"
            if size is not None:
                synthetic.write_checkpoint(size, checkpoint)
                label, count = f"random Llama, float16, {name}", size.parameters
            else:
                label, count = name, (checkpoint / "model.safetensors").stat().st_size // 4
            command = [sys.executable, "-m", "olivine.search.cli.main", "build", str(checkpoint)]
            command += ["--to", str(here / "out"), "--set", "precision=int4"]
            took = footprint.run(command, {**os.environ, "OLIVINE_CACHE": str(here / "cache")})
            cells = (label, f"{count / 1e6:.0f}M", f"{took.seconds:.1f}", f"{took.seconds / count * 1e9:.0f}")
            memory = (f"{took.anonymous_bytes / 1e6:.0f}", f"{took.resident_bytes / 1e6:.0f}")
            rows.append(f"| {' | '.join((*cells, *memory))} |")
            print(rows[-1], file=sys.stderr, flush=True)
            shutil.rmtree(here)
    return rows


def same_against_itself(repeat: int, seconds: float) -> list[str]:
    """Rows: the base against a second process of itself."""
    base = build(resolve(MODEL), LANGUAGE.compose({}), Cache(cache_root())).artifact
    rows = ["| run | decode | prefill | rounds |", "|---|---|---|---|"]
    with ModelProcess.open(base.path) as reference:
        for run in range(repeat):
            with ModelProcess.open(base.path) as candidate:
                found = {
                    m.metric: m
                    for m in PairedDecoderLatency(max_seconds=seconds, seed=run).evaluate(candidate, reference)
                }
            cells = [
                f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in (found["tpot_speedup"], found["ttft_speedup"])
            ]
            rows.append(f"| {run + 1} | {cells[0]} | {cells[1]} | {found['tpot_ms'].protocol['rounds']} |")
    return rows


def scoring(repeat: int) -> list[str]:
    """Rows: tokens a second while scoring, against prefill alone on the same windows in the same process."""
    base = build(resolve(MODEL), LANGUAGE.compose({}), Cache(cache_root())).artifact
    text = tokenize("\n\n".join(TextSource.parse("demo:news").documents()[:40]), base.path)
    windows = draw(text, TextProtocol(512, 512), 6)
    ratios, rates = [], []
    with ModelProcess.open(base.path) as process, tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "reference.npz"
        process.reference([(w.tokens, w.scored) for w in windows], stored, 512)
        for _ in range(repeat):
            bare = sum(process.prefill(w.tokens, 1).ms[0] for w in windows) / 1e3
            start = time.perf_counter()
            for number in range(len(windows)):
                process.score(stored, number)
            scored = time.perf_counter() - start
            ratios.append(bare / scored)
            rates.append(sum(len(w.tokens) for w in windows) / scored)
    return [
        "| scoring tok/s | share of prefill alone |",
        "|---|---|",
        f"| {statistics.median(rates):.0f} | {statistics.median(ratios):.2f} |",
    ]


@dataclass(frozen=True)
class Part:
    """A section of the page: its title, what a reader has to know, and what measures its rows."""

    title: str
    about: str
    rows: Callable[[int], list[str]]


PARTS = {
    "builds": Part(
        "A warm candidate against ONNX Runtime GenAI's model builder, in-process",
        "The float graph is cached, as it is from the second trial of a study on; the builder reads the same "
        "checkpoint. olivine's time includes the check that the result loads and gives finite logits. Resident memory "
        "holds the pages of the memory-mapped float graph, which the kernel drops when it needs the room.",
        builds,
    ),
    "cold": Part(
        "A first candidate, export included, against the model builder",
        "Nothing but the checkpoint is there; olivine also keeps the float graph, from which the next ones are made.",
        cold,
    ),
    "streaming": Part(
        "From checkpoint to int4 folder, by model size",
        "The command `olivine build`, in an empty cache: a copy of the checkpoint, the float32 graph, the int4 "
        "graph and the checks of both. Memory is that of all processes together.",
        streaming,
    ),
    "same": Part(
        "The base against itself: speedups that should be 1, at 10 seconds a pair",
        "",
        lambda repeat: same_against_itself(repeat, 10.0),
    ),
    "scoring": Part("Scoring a text against running it as a prompt", "", scoring),
}


def main() -> None:
    """Run the benchmarks, print and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--job", nargs=2, metavar=("KIND", "NAME"))
    arguments.add_argument("--to", type=Path)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = arguments.parse_args()
    if options.job:
        print(json.dumps({"seconds": JOBS[options.job[0]](options.job[1])}))
        return
    np.set_printoptions(precision=3)
    machine = describe_environment()
    versions = ", ".join(
        f"{name} {machine['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai", "torch")
    )
    where = f"Measured on {machine['cpu']}, {machine['cores']} cores; {versions}; medians of {options.repeat} in turn."
    sections = _sections(options.to)
    for name in options.parts:
        part = PARTS[name]
        about = f"{part.about} {where}".strip()
        sections[part.title] = "\n".join([f"## {part.title}", "", about, "", *part.rows(options.repeat), ""])
        print(sections[part.title])
    if options.to:
        intro = "`make bench`; the demo model has 135M parameters. Times of jobs start after their imports."
        kept = [sections[part.title] for part in PARTS.values() if part.title in sections]
        options.to.write_text("\n".join(["# Benchmarks", "", intro, "", *kept]), encoding="utf-8")


def _sections(page: Path | None) -> dict[str, str]:
    """The sections of an earlier page, by title."""
    if page is None or not page.exists():
        return {}
    found = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {text.splitlines()[0].removeprefix("## "): text for text in found}


if __name__ == "__main__":
    main()
