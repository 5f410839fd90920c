"""``make bench-imports``: checkpoints that are quantized already, in each format that is read.

The demo model's layers are rounded to nearest in groups of 64 (or a row), packed by the packers of the tests, and
imported. Of each format: the largest difference of a logit between the graph that keeps the codes, computed in floats
(accuracy level 0), and transformers on the dequantized weights; the size of the checkpoint and of the graph; and the
divergence of the graph, with the fast kernels, from the float model that was rounded. Two of olivine's own recipes
stand beside them. Heads came as floats and are stored in int8; embeddings are floats.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from front import Choice, Subject
from tiny_coded import Codes, Packer, awq, coded_checkpoint, gptq_v1, gptq_v2, int_quantized, pack_quantized, quantized

from olivine.evaluators.stats import clustered_mean
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.parity.gate import compare_folder
from olivine.passes.pipeline import build, source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache
from olivine.search.environment import describe_environment

DEMO, GROUP, WINDOWS = "demo:smollm2-135m-instruct", 64, 8
CAME: Choice = {"precision": "as_it_came", "lm_head": "int8"}
OWN: list[Choice] = [
    {"precision": "int4", "algorithm": algorithm, "block_size": GROUP, "lm_head": "int8", **more}
    for algorithm, more in (("rtn", {"symmetric": False}), ("k_quant", {}))
]
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False}

_HEAD = f"""# Checkpoints that are quantized already

`make bench-imports`: the layers of the demo model, rounded to nearest in groups of {GROUP} (int8: one scale a
row), packed in each format by the tests' packers and imported with `precision: as_it_came`. *Difference* is the
largest of a logit between the graph with the codes (accuracy level 0) and transformers on the dequantized
weights, beside the spread of the logits. *Checkpoint* has float32 head and embedding; *graph* has the head in
int8 and the embedding in float32. *KL* is that of the graph with the fast kernels (accuracy level 4) from the
float model before rounding, in nats a token, on {WINDOWS} windows of 512 tokens of held-back news, with 95 %
intervals. The codes of a form are the same in each format, so their KL is too.

| format | difference | checkpoint | graph | KL |
|---|---|---|---|---|"""


@dataclass(frozen=True)
class Format:
    """A format: its packer, its quantization_config, and the form of its codes."""

    pack: Packer
    about: dict[str, Any]
    bits: int = 4
    group: int = GROUP
    symmetric: bool = False
    act_order: bool = False

    def codes(self, name: str, weight: np.ndarray) -> Codes | None:
        """The codes of a layer; the head stays float."""
        if name == "lm_head.weight":
            return None
        k = weight.shape[1]
        group = self.group or k
        groups = np.arange(k) // group
        if self.act_order:
            groups = np.random.default_rng(k).permutation(groups)
        return quantized(weight, self.bits, group, symmetric=self.symmetric, groups=groups)


def _compressed(word: str, bits: int, group: int) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "group_size": group or None}
    return {"quant_method": "compressed-tensors", "format": word, "config_groups": {"group_0": {"weights": weights}}}


FORMATS = {
    "AWQ gemm": Format(awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
    "GPTQ v1": Format(gptq_v1, _GPTQ),
    "GPTQ v2, act-order": Format(gptq_v2, {**_GPTQ, "checkpoint_format": "gptq_v2", "desc_act": True}, act_order=True),
    "AutoRound, auto_gptq": Format(
        gptq_v1, {**_GPTQ, "quant_method": "auto-round", "packing_format": "auto_round:auto_gptq"}, symmetric=True
    ),
    "compressed-tensors pack int4": Format(pack_quantized, _compressed("pack-quantized", 4, GROUP), symmetric=True),
    "compressed-tensors int8 a row": Format(int_quantized, _compressed("int-quantized", 8, 0), 8, 0, symmetric=True),
}


def rows(work: Path) -> Iterator[str]:
    """A row of the table for each format, then for each own recipe."""
    subject = Subject("demo", DEMO, work, WINDOWS)
    plain = source_artifact(resolve(DEMO), subject.cache).path
    for name, form in FORMATS.items():
        yield _imported(subject, plain, work, name, form)
    for choice in OWN:
        candidate = subject.build(choice, available_cores())
        words = f"olivine's own int4, {choice['algorithm']}"
        kl = _divergence(subject, candidate.path)
        yield f"| {words} | | | {candidate.model_bytes() / 1e6:.1f} MB | {kl} |"


def _imported(subject: Subject, plain: Path, work: Path, name: str, form: Format) -> str:
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        folder, cache = Path(scratch) / "coded", Cache(Path(scratch) / "cache")
        coded_checkpoint(plain, folder, form.pack, form.about, form.codes)
        source = resolve(str(folder))
        make = partial(build, source, cache=cache)
        exact = make(LANGUAGE.compose({"precision": "as_it_came", "accuracy_level": 0})).artifact
        agreement = compare_folder(source_artifact(source, cache).path, exact.path, 1e-3)
        fast = make(LANGUAGE.compose({**CAME, "threads": available_cores()})).artifact
        stored, size = (folder / "model.safetensors").stat().st_size, fast.model_bytes()
        kl = _divergence(subject, fast.path)
        shutil.rmtree(folder)
    difference = f"{agreement.largest_difference:.1g} of {agreement.spread:.2g}"
    return f"| {name} | {difference} | {stored / 1e6:.1f} MB | {size / 1e6:.1f} MB | {kl} |"


def _divergence(subject: Subject, folder: Path) -> str:
    windows = np.array(subject.divergence_of(folder, "confirm"))
    mean = clustered_mean(windows, np.ones_like(windows))
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def page(work: Path) -> str:
    """The whole page; rows are printed as they are measured."""
    about = describe_environment()
    lines = _HEAD.split("\n")
    for row in rows(work):
        print(row, flush=True)
        lines.append(row)
    versions = about["versions"]
    used = ("onnxruntime", "onnxruntime-genai", "torch", "transformers")
    lines += [
        "",
        f"Nothing is timed. {', '.join(f'{name} {versions[name]}' for name in used if name in versions)}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        text = page(Path(work))
    write_atomic(options.to, text)


if __name__ == "__main__":
    main()
