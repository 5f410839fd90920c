"""Fusion levels, through onnxruntime.transformers, for architectures that its optimizer knows."""

from __future__ import annotations

from pathlib import Path

from olivine.passes.errors import PassRefused
from olivine.passes.graphs.quiet import errors_only

#: transformers' model type -> the optimizer's, where they differ or one stands for a family.
FUSED_AS = {
    **dict.fromkeys(
        ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "albert"), "bert"
    ),
    **dict.fromkeys(("vit", "deit", "beit", "dinov2", "clip", "clip_vision_model", "siglip"), "vit"),
    "swin": "swin",
    "whisper": "bart",
    "bart": "bart",
    "conformer": "conformer",
}


def fuse(graph: Path, to: Path, level: str, architecture: str, heads: int = 0, hidden: int = 0) -> dict[str, int]:
    """Write the fused graph to the file ``to``; returns how many nodes of each fused operator it has.

    ``basic`` merges normalizations, activation functions and biases; ``full`` attention and embeddings as well.

    Args:
        graph: the file to read.
        to: the file to write.
        level: ``basic`` or ``full``.
        architecture: transformers' model type.
        heads: attention heads; 0 for what the graph tells.
        hidden: hidden size; likewise.

    Raises:
        PassRefused: when the optimizer does not know the architecture, or finds nothing to merge in the graph.
    """
    if architecture not in FUSED_AS:
        known = ", ".join(FUSED_AS)
        raise PassRefused(
            f"fuse: onnxruntime.transformers knows no architecture '{architecture or 'unnamed'}'. Name the nearest as "
            f"'architecture:' in the study ({known}), or search fusion_level: none."
        )
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    kind = FUSED_AS[architecture]
    options = FusionOptions(kind)
    if level == "basic":
        options.enable_attention = options.enable_embed_layer_norm = False
    # Level 0: ONNX Runtime's own optimizations run when the graph is loaded, on the machine that runs it.
    with errors_only("onnxruntime.transformers", "fusion_attention"):
        found = optimize_model(
            str(graph), model_type=kind, num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
        )
    counts = {name: int(count) for name, count in found.get_fused_operator_statistics().items() if count}
    if not counts:
        raise PassRefused(f"fuse: the graph has nothing that the optimizer merges in a '{architecture}'")
    found.save_model_to_file(str(to))
    return counts
