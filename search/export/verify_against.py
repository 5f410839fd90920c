"""``olivine verify --against MODEL --python ENV``: a folder beside its checkpoint, and under another runtime."""

from __future__ import annotations

from pathlib import Path

import onnx

from olivine.evaluators.quality.other_runtime import OtherRuntime, compare_runtimes
from olivine.passes.errors import UsageError, WrongGraph
from olivine.passes.parity.agreement import Agreement
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.pipeline import source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root
from olivine.passes.transforms.prune_head import unpruned
from olivine.search.export.folder import check_tokens
from olivine.search.export.verify import VerifyFailed

_QUANTIZED = ("MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "GatherBlockQuantized", "QMoE")


def verify_against(
    folder: Path,
    model: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    max_kl: float | None = None,
) -> Agreement:
    """Compare a model folder with the checkpoint that it was made of.

    Args:
        folder: ONNX Runtime GenAI folder, float or quantized, its head pruned or not.
        model: the checkpoint, as ``model:`` takes it.
        revision: of a hub model.
        trust_remote_code: whether code of the checkpoint may run.
        max_kl: largest KL divergence of a quantized folder, in nats a token; None for any.

    Raises:
        UsageError: when ``model`` is no checkpoint.
        VerifyFailed: when a float folder differs by more than rounding, or a quantized one by more than ``max_kl``.
    """
    from olivine.passes.parity.gate import compare_folder, prove  # imports torch

    source = resolve(model, revision=revision, trust_remote_code=trust_remote_code)
    if source.kind == "onnx":
        raise UsageError(f"'{model}' is a graph: --against takes the checkpoint; 'olivine eval' compares two folders.")
    checkpoint = source_artifact(source, Cache(cache_root())).path
    with unpruned(folder) as scored:
        precision = _precision(scored)
        if precision is None:
            agreement = compare_folder(checkpoint, scored, 0.0)
            if max_kl is not None and not agreement.kl_divergence <= max_kl:
                raise VerifyFailed(
                    f"{folder} has a KL divergence of {agreement.kl_divergence:.3g} nats from {model} over "
                    f"{agreement.tokens:,} tokens; at most {max_kl:g} are allowed"
                )
            return agreement
        try:
            proven = prove(checkpoint, scored, precision)
        except WrongGraph as error:
            raise VerifyFailed(f"{folder} is not {model}: {error}") from error
    if proven is None:
        raise UsageError(f"{folder} is of {precision}, for which the CPU has no kernels: it can't be compared here.")
    return proven


def verify_runtimes(folder: Path, python: str | None) -> list[OtherRuntime]:
    """Compare what a folder says here with what it says under another interpreter, and with products in float32."""
    with unpruned(folder) as scored:
        return compare_runtimes(scored, check_tokens(folder), python)


def _precision(folder: Path) -> str | None:
    """The float type of a graph; None for a quantized one."""
    graph = onnx.load(folder / GraphRun.decoder_of(folder)["filename"], load_external_data=False).graph
    if any(node.op_type in _QUANTIZED for node in graph.node):
        return None
    types = {weight.data_type for weight in graph.initializer}
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"
