"""Rules for sources that are graphs already: no pass may ask for another checkpoint, or another export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from olivine.passes.base import CheckpointPass, ExportPass, Pass
from olivine.passes.errors import PassRefused
from olivine.passes.sources.source import Source

#: A float type of a source -> the precision of an export with such weights.
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
#: A provider's name in genai_config.json, in small letters -> ours, where they differ.
_PROVIDERS = {"nvtensorrtrtx": "trt-rtx"}


def refuse_other_graph(source: Source, passes: Sequence[Pass], config: Callable[[], dict[str, Any]]) -> None:
    """Refuse passes up to the export that would have made another graph than the source is.

    They are not run on it; without this, candidates that differ only in them would be the same bytes under several
    names. What an export does by default is taken as what the graph is.

    Args:
        source: a graph.
        passes: of a recipe.
        config: gives the source's genai_config.json, where it is needed.

    Raises:
        PassRefused: naming the pass or the parameter.
    """
    for p in passes:
        if isinstance(p, CheckpointPass):
            raise PassRefused(
                f"pass '{p.name}' changes a checkpoint, and the model '{source.name}' is a graph already. Leave it "
                "out, or give the checkpoint that the graph was exported from."
            )
        if isinstance(p, ExportPass):
            defaults = p.reference().params()
            changed = {name: value for name, value in p.params().items() if value != defaults[name]}
            own = {**defaults, **_facts(source, config())} if changed else defaults
            others = [name for name, value in changed.items() if value != own[name]]
            if others:
                changes, fits = (", ".join(f"{name} '{of[name]}'" for name in others) for of in (changed, own))
                raise PassRefused(
                    f"{changes}: this takes an export, and the model '{source.name}' is a graph already. What fits: "
                    f"{fits}, or the checkpoint that the graph was exported from."
                )


def _facts(source: Source, config: dict[str, Any]) -> dict[str, str]:
    """Precision and provider of the graph, in the words of an export."""
    entries = config["model"]["decoder"].get("session_options", {}).get("provider_options") or []
    words = [name.lower().removesuffix("executionprovider") for entry in entries for name in entry]
    provider = next((_PROVIDERS.get(word, word) for word in words if word != "cpu"), "cpu")
    return {"precision": _PRECISIONS[source.dtype], "provider": provider}
