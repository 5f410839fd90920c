"""``make bench-front``: what mixing formats gains over one format for all layers, on the demo model.

Builds named recipes, without a search, and measures all of them against the float base: speed in pairs, quality on
held-back text in windows of 512 tokens. Writes the table to the file that is given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from olivine.search.cli import main as olivine
from olivine.search.environment import describe_environment

MODEL = "demo:smollm2-135m-instruct"
GPTQ = {"algorithm": "gptq", "block_size": "32", "embedding": "int8"}
BASE = "float base"
RECIPES: dict[str, dict[str, str]] = {
    BASE: {},
    "int8, block 64": {"precision": "int8", "block_size": "64", "embedding": "int8"},
    "int4 k_quant, block 32": {**GPTQ, "precision": "int4", "algorithm": "k_quant"},
    "int4 gptq, block 32": {**GPTQ, "precision": "int4"},
    "int4 gptq, block 16": {**GPTQ, "precision": "int4", "block_size": "16"},
    "mixed, 15 % at 8 bits": {**GPTQ, "precision": "mixed", "int8_share": "0.15"},
    "mixed, 30 % at 8 bits": {**GPTQ, "precision": "mixed", "int8_share": "0.3"},
    "int8, int8 activations": {
        "precision": "int8",
        "block_size": "64",
        "embedding": "int8",
        "activations": "int8",
    },
    "mixed, 30 % at 8 bits, int8 activations": {
        **GPTQ,
        "precision": "mixed",
        "int8_share": "0.3",
        "activations": "int8",
    },
}
METRICS = ("tpot_speedup", "ttft_speedup", "perplexity_ratio", "kl_divergence")


def measure(folder: Path, seconds: float, windows: int) -> dict[str, dict[str, Any]]:
    """Recipe -> its metrics and bytes."""
    folders = {}
    for index, (name, choice) in enumerate(RECIPES.items()):
        folders[name] = folder / str(index)
        sets = [word for axis, value in choice.items() for word in ("--set", f"{axis}={value}")]
        run("build", MODEL, "--to", str(folders[name]), "--calibrate-windows", "8", *sets)
    names = [str(path) for name, path in folders.items() if name != BASE]
    reference = ["--reference", str(folders[BASE])]
    speed, quality = folder / "speed.json", folder / "quality.json"
    run("bench", *names, *reference, "--seconds", str(seconds), "--json", str(speed))
    run("eval", *names, *reference, "--split", "confirm", "--windows", str(windows), "--json", str(quality))
    measured: dict[str, dict[str, Any]] = {}
    for file in (speed, quality):
        for found, metrics in json.loads(file.read_text()).items():
            measured.setdefault(found, {}).update(metrics)
    return {
        name: {**measured[str(path)], "bytes": sum(p.stat().st_size for p in path.glob("model.onnx*"))}
        for name, path in folders.items()
        if name != BASE
    }


def run(*words: str) -> None:
    """One command of olivine.

    Raises:
        SystemExit: when it fails.
    """
    if (code := olivine(list(words))) != 0:
        raise SystemExit(code)


def table(measured: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown rows."""
    lines = ["| recipe | decode | prefill | perplexity ratio | KL | MB |", "|---|---|---|---|---|---|"]
    for name, metrics in measured.items():
        cells = [_interval(metrics[metric], 3 if "ratio" in metric or "kl" in metric else 2) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | {metrics['bytes'] / 1e6:.0f} |")
    return lines


def _interval(metric: dict[str, float], digits: int) -> str:
    value, low, high = (f"{metric[end]:.{digits}f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def at_equal_bytes(measured: dict[str, dict[str, Any]]) -> str:
    """The claim that mixing is for: less divergence than the best format for all layers, in the same bytes."""
    mixed, uniform = measured["mixed, 30 % at 8 bits"], measured["int4 gptq, block 16"]
    less = 1 - mixed["kl_divergence"]["value"] / uniform["kl_divergence"]["value"]
    faster = mixed["tpot_speedup"]["value"] / uniform["tpot_speedup"]["value"]
    return (
        f"At equal bytes ({mixed['bytes'] / 1e6:.0f} and {uniform['bytes'] / 1e6:.0f} MB) 30 % at 8 bits have "
        f"{less:.0%} less KL divergence than GPTQ in blocks of 16, and decode {faster:.2f}x as fast."
    )


def main() -> None:
    """Build, measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a pair")
    parser.add_argument("--windows", type=int, default=8, help="of 512 held-back tokens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(Path(scratch), options.seconds, options.windows)
    about = describe_environment()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai"))
    lines = [
        "# One format for all layers, and mixed ones",
        "",
        f"`make bench-front` on {about['cpu']}, {about['cores']} cores; {versions}. Speedups over the float base with",
        f"the same threads, {options.seconds:g} s a pair; quality on {options.windows} held-back windows of 512",
        "tokens; brackets are 95 % intervals.",
        "",
        *table(measured),
        "",
        at_equal_bytes(measured),
    ]
    options.to.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
