"""Fusion levels, through onnxruntime.transformers, for architectures that its optimizer knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from olivine.passes.base import Axis, Choice, GraphFacts, GraphFilePass
from olivine.passes.errors import PassRefused
from olivine.passes.graphs.quiet import errors_only
from olivine.passes.graphs.source import save_named

#: transformers' model type -> the optimizer's, where they differ or one stands for a family.
FUSED_AS = {
    **dict.fromkeys(
        (
            "bert",
            "distilbert",
            "roberta",
            "xlm-roberta",
            "camembert",
            "electra",
            "mpnet",
            "albert",
            "deberta-v2",
            "modernbert",
        ),
        "bert",
    ),
    **dict.fromkeys(("vit", "deit", "beit", "dinov2", "clip", "clip_vision_model", "siglip"), "vit"),
    "swin": "swin",
    "whisper": "bart",
    "bart": "bart",
    "conformer": "conformer",
}


@dataclass(frozen=True)
class GraphFuse(GraphFilePass):
    """Merges nodes into the operators of ONNX Runtime.

    Attributes:
        level: ``basic`` merges normalizations, activation functions and biases; ``full`` attention and embeddings as
            well.
    """

    level: str

    name: ClassVar[str] = "fuse"
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "fusion_level",
            "choice",
            "none",
            "nodes that onnxruntime.transformers merges: none, all but attention and embeddings, all that it knows",
            ("none", "basic", "full"),
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GraphFuse | None:
        """No step for ``fusion_level: none``."""
        return None if choice["fusion_level"] == "none" else cls(str(choice["fusion_level"]))

    def key_parts(self, facts: GraphFacts) -> list[str]:
        """The architecture decides which optimizer runs."""
        return [facts.architecture]

    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write the fused graph to the file ``to``.

        Raises:
            PassRefused: when the optimizer does not know the architecture, or finds nothing to merge in the graph.
        """
        if facts.architecture not in FUSED_AS:
            known = ", ".join(FUSED_AS)
            raise PassRefused(
                f"fuse: onnxruntime.transformers knows no architecture '{facts.architecture or 'unnamed'}'. Name the "
                f"nearest as 'architecture:' in the study ({known}), or search fusion_level: none."
            )
        from onnxruntime.transformers.fusion_options import FusionOptions
        from onnxruntime.transformers.optimizer import optimize_model

        kind = FUSED_AS[facts.architecture]
        options = FusionOptions(kind)
        if self.level == "basic":
            options.enable_attention = options.enable_embed_layer_norm = False
        # Level 0: ONNX Runtime's own optimizations run when the graph is loaded, on the machine that runs it.
        with errors_only("onnxruntime.transformers", "fusion_attention"):
            fused = optimize_model(
                str(graph),
                model_type=kind,
                num_heads=facts.heads,
                hidden_size=facts.hidden,
                optimization_options=options,
                opt_level=0,
            )
        if not any(fused.get_fused_operator_statistics().values()):
            raise PassRefused(f"fuse: the graph has nothing that the optimizer merges in a '{facts.architecture}'")
        fused.save_model_to_file(str(to))
        save_named(onnx.load(to), to)
