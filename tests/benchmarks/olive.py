"""``make bench-olive``: candidates that Microsoft Olive's search measures in a time, beside olivine's in the same run.

Olive runs in an environment of its own (``tests/benchmarks/olive.txt``) on the same checkpoint, from an empty cache. A
first command exports the float32 graph by the model builder, a second one searches block-wise rounding of it in 4 or 8
bits by TPE. (As two passes of one search Olive 0.13 fails from the second candidate on, when it takes the export from
its own cache; with the model builder as the only pass, which exports anew each time, a candidate takes half a minute.)
Its metric is the latency of one forward pass. Writes a page to the file that is given.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from footprint import Watch
from study_rate import Rate, disk_bytes, page, run_study

from olivine.passes.pipeline import source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root, scratch_folder
from olivine.search.environment import describe_environment

MODEL = "demo:smollm2-135m-instruct"
PYTHON = Path("envs/olive/bin/python")
#: As the model builder names them.
HEAD, EMBEDDING = "/lm_head/MatMul", "/model/embed_tokens/Gather"
PACKAGES = ("olive-ai", "onnxruntime", "onnxruntime-genai", "onnx", "torch", "transformers", "optuna")


@dataclass(frozen=True)
class StudyRunner:
    """What Olive's search did in a time.

    Attributes:
        tried: candidates that it began.
        failed: candidates that it gave up.
        measured: distinct models with a latency.
        anonymous_bytes: largest sum over all processes.
        shared_bytes: largest sum of resident memory, where a page that several processes map counts once.
        disk_bytes: of cache and output at the end.
    """

    tried: int
    failed: int
    measured: int
    anonymous_bytes: int
    shared_bytes: int
    disk_bytes: int


def checkpoint() -> Path:
    """The demo model as a Hugging Face checkpoint; built where the cache does not have it."""
    return source_artifact(resolve(MODEL), Cache(cache_root())).path


def workflow(scratch: Path, source: dict[str, str], passes: dict[str, Any], **more: object) -> dict[str, Any]:
    """Olive's run config, as far as export and search have it in common."""
    return {
        "input_model": source,
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "passes": passes,
        "host": "here",
        "target": "here",
        "evaluate_input_model": False,
        "cache_dir": str(scratch / "cache"),
        "log_severity_level": 1,
        **more,
    }


def export_workflow(model: Path, scratch: Path) -> dict[str, Any]:
    """The float32 graph, by the model builder."""
    passes = {"export": {"type": "ModelBuilder", "precision": "fp32"}}
    return workflow(scratch, {"type": "HfModel", "model_path": str(model)}, passes, output_dir=str(scratch / "float"))


def search_workflow(model: Path, scratch: Path, seconds: float) -> dict[str, Any]:
    """The search over that graph: 60 points of block-wise rounding, all with the integer kernels that are fast."""
    (graph,) = (scratch / "float").rglob("*.onnx")
    passes = {
        "round": {
            "type": "OnnxBlockWiseRtnQuantization",
            "bits": _one_of([4, 8]),
            "block_size": _one_of([16, 32, 64, 128, 256]),
            "is_symmetric": _one_of([True, False]),
            "accuracy_level": 4,
            "nodes_to_exclude": _one_of([[], [HEAD], [HEAD, EMBEDDING]]),
        }
    }
    token = {"model_name": str(model), "seq_len": 1, "past_seq_len": 64}
    latency = {"name": "latency", "type": "latency", "data_config": "token"}
    return workflow(
        scratch,
        {"type": "ONNXModel", "model_path": str(graph)},
        passes,
        data_configs=[
            {"name": "token", "type": "TransformersTokenDummyDataContainer", "load_dataset_config": token},
        ],
        evaluators={"speed": {"metrics": [{**latency, "sub_types": [{"name": "avg", "priority": 1}]}]}},
        evaluator="speed",
        search_strategy={"execution_order": "joint", "sampler": "tpe", "max_time": int(seconds)},
        output_dir=str(scratch / "output"),
    )


def _one_of(values: Sequence[object]) -> dict[str, Any]:
    return {"olive_parameter_type": "SearchParameter", "type": "Categorical", "support": list(values)}


def run_olive(model: Path, scratch: Path, seconds: float) -> StudyRunner:
    """Run Olive's export and search for ``seconds`` from the start of the first, then end it."""
    home, started = scratch / "olive", time.time()
    home.mkdir()
    exported = _run(export_workflow(model, home), scratch / "export", seconds)
    searched = _run(search_workflow(model, home, seconds), scratch / "search", started + seconds - time.time())
    said = (scratch / "search.log").read_text(errors="replace")
    measured = [path for path in home.rglob("evaluations/*.json") if path.stat().st_mtime <= started + seconds]
    measured = [path for path in measured if "latency-avg" in json.loads(path.read_text())["signal"]]
    if not measured:
        raise SystemExit(f"Olive measured nothing in {seconds:.0f} s; it said last:\n{said[-4000:]}")
    return StudyRunner(
        tried=said.count(" with search point "),
        failed=said.count(" ... FAILED"),
        measured=len(measured),
        anonymous_bytes=max(exported.anonymous_bytes, searched.anonymous_bytes),
        shared_bytes=max(exported.shared_bytes, searched.shared_bytes),
        disk_bytes=disk_bytes(home),
    )


def _run(workflow: dict[str, Any], name: Path, seconds: float) -> Watch:
    """One command of Olive, ended after ``seconds``; what it says is in ``name``.log."""
    config = name.with_suffix(".json")
    config.write_text(json.dumps(workflow, indent=1))
    offline = {"HF_HOME": str(name.parent / "hf"), "HF_HUB_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
    command = [str(PYTHON.absolute()), "-m", "olive", "run", "--config", str(config)]
    with name.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **offline}, cwd=name.parent, stdout=log, stderr=subprocess.STDOUT
        )
        with Watch(process.pid) as watch:
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return watch


def rows(olive: StudyRunner, ours: Rate) -> list[str]:
    """The table: what each did, and the ratio."""
    candidates = [record for record in ours.records if record["number"] > 0 and record["state"] != "failed"]
    decided = len({record["recipe_key"] for record in candidates})
    measured = len({record["recipe_key"] for record in candidates if record["state"] == "complete"})
    pairs = [
        ("decided, distinct", olive.measured, decided, ""),
        ("measured, distinct", olive.measured, measured, ""),
        ("peak of all processes, anonymous", olive.anonymous_bytes / 1e6, ours.anonymous_bytes / 1e6, " MB"),
        ("peak of all processes, resident", olive.shared_bytes / 1e6, ours.shared_bytes / 1e6, " MB"),
        ("disk", olive.disk_bytes / 1e6, ours.disk_bytes / 1e6, " MB"),
    ]
    lines = [
        f"| {name} | {theirs:.0f}{unit} | {own:.0f}{unit} | {own / theirs:.2f} |" for name, theirs, own, unit in pairs
    ]
    return ["| | Olive | olivine | olivine / Olive |", "|---|---|---|---|", *lines]


def versions() -> str:
    """What is installed beside Olive."""
    code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    return subprocess.check_output([str(PYTHON), "-c", code, *PACKAGES], text=True).strip()


def main() -> None:
    """Run, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=600.0, help="for each of the two")
    arguments.add_argument("--only-olive", action="store_true", help="print what Olive did, and write nothing")
    arguments.add_argument("--to", type=Path)
    arguments.add_argument("--study-to", type=Path, help="the page that `make bench-study` writes, of olivine's part")
    options = arguments.parse_args()
    model = checkpoint()
    with scratch_folder("bench-olive") as scratch:
        olive = run_olive(model, scratch, options.seconds)
    print(olive)
    if options.only_olive:
        return
    with scratch_folder("bench") as scratch:
        ours = run_study(options.seconds, scratch)
    machine = describe_environment()
    about = (
        f"`make bench-olive` on {machine['cpu']}, {machine['cores']} cores: {options.seconds:.0f} s each, one after "
        "the other, on the demo model, from empty caches, the export included. Olive's configuration is the one in "
        "`tests/benchmarks/olive.py`: its TPE over 60 points of block-wise rounding, one forward pass of dummy input "
        f"a candidate, no quality; {olive.tried} tried, {olive.failed} failed. olivine's is "
        "`tests/benchmarks/throughput.yaml`: decode and prefill beside the base, with intervals, and quality on text; "
        "decided is measured or surely dropped."
    )
    lines = [
        "# Beside Olive",
        "",
        *textwrap.wrap(about, 120),
        "",
        *rows(olive, ours),
        "",
        f"olivine: {', '.join(f'{name} {found}' for name, found in machine['versions'].items())}.",
        "",
        f"Olive: {versions()}.",
        "",
    ]
    print("\n".join(lines))
    if options.to:
        options.to.write_text("\n".join(lines), encoding="utf-8")
    if options.study_to:
        options.study_to.write_text(page(ours, "make bench-olive"), encoding="utf-8")


if __name__ == "__main__":
    main()
