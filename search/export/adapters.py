"""LoRA adapters of an exported folder: their files, what the manifest and the card say of them, and their selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.passes.adapters.adapter_file import FOLDER, SUFFIX, adapter_path
from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.adapters.base_name import names_another
from olivine.passes.adapters.peft_config import CONFIG
from olivine.passes.adapters.peft_folder import LoraAdapter
from olivine.passes.catalog import read_recipe
from olivine.search.export.likelihood import negative_log_likelihood

#: Digits of numbers on a card.
_DIGITS = ".3g"
_NOT_COMPARED = "not compared with its checkpoint: ONNX Runtime has no kernels on the CPU for a graph of this type"


def export_adapters(
    adapters: AdapterSet, folder: Path, graph: Path, manifest: Mapping[str, Any], tokens: list[int], process: Any
) -> dict[str, dict[str, Any]]:
    """Write each adapter below a folder, run it there, and compare it with its checkpoint.

    Args:
        adapters: of the model.
        folder: that is exported; its model is there already.
        graph: of the candidate.
        manifest: with the model and the recipe.
        tokens: of the check text.
        process: options of the process that runs the model; None for those of its provider.

    Returns:
        Name -> section of the manifest.

    Raises:
        UsageError: for an adapter of whose layers the graph has none.
        WrongGraph: for one that does not do in the graph what it does in the checkpoint.
        ModelProcessFailed: when the folder does not run with it.
    """
    adapters.write(graph, read_recipe(manifest["recipe"]), folder)
    effects = adapters.check(folder, tokens)
    sections = {}
    for adapter in adapters.adapters:
        effect = effects.get(adapter.name)
        notes = [*_base_notes(adapter, manifest["model"]), *([_NOT_COMPARED] if effect is None else [])]
        sections[adapter.name] = {
            "file": adapter_path(folder, adapter.name).relative_to(folder).as_posix(),
            "ranks": list(adapter.ranks),
            "projections": list(adapter.roles),
            "nll": negative_log_likelihood(folder, tokens, process, adapter.name),
            "agreement": None if effect is None else effect.to_json(),
            **({"notes": notes} if notes else {}),
        }
    return sections


def adapter_notes(about: Mapping[str, Any]) -> list[str]:
    """The sentences of a manifest on its adapters: what a person should know before one is used."""
    sections: Mapping[str, Mapping[str, Any]] = about.get("adapters", {})
    return [f"adapter '{name}': {note}" for name, section in sections.items() for note in section.get("notes", ())]


def _base_notes(adapter: LoraAdapter, model: Mapping[str, Any]) -> list[str]:
    """A caution where an adapter says that it was trained on another model than the manifest's."""
    names = (model["source"], model["name"])
    if not names_another(adapter.base, names):
        return []
    return [
        f"its {CONFIG} names the base model {adapter.base}, and this is {model['source']}. Its modules and shapes fit, "
        "which tells nothing of the weights: on another model than its own an adapter answers wrongly"
    ]


def adapters_text(about: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The section of a card on adapters; empty where the folder has none.

    Args:
        about: the manifest.
        notes: its notes on adapters, as Markdown.
    """
    sections: Mapping[str, Mapping[str, Any]] = about.get("adapters", {})
    if not sections:
        return ""
    first = next(iter(sections))
    rows = ["| adapter | projections | rank | KL to its checkpoint | without adapter |", "|---|---|---|---|---|"]
    for name, section in sections.items():
        found = section["agreement"]
        divergences = ("kl_divergence", "base_kl_divergence")
        kl, base_kl = (format(found[key], _DIGITS) if found else "not compared" for key in divergences)
        ranks = ", ".join(map(str, section["ranks"]))
        rows.append(f"| {name} | {', '.join(section['projections'])} | {ranks} | {kl} | {base_kl} |")
    paragraphs = ["\n".join(rows), *(f"{note[:1].upper()}{note[1:]}." for note in notes)]
    script = (
        "adapters = genai.Adapters(model)\n"
        f'adapters.load("{FOLDER}/{first}{SUFFIX}", "{first}")\n'
        "generator = genai.Generator(model, params)\n"
        f'generator.set_active_adapter(adapters, "{first}")  # before append_tokens; without it, the base model answers'
    )
    return (
        "## Adapters\n\n"
        "LoRA adapters stand beside the graph, in the files of ONNX Runtime; each generator takes one or none, and all "
        "share the weights.\n\n" + "\n\n".join(paragraphs) + f"\n\n```python\n{script}\n```\n\n"
        f"`olivine chat DIR --adapter {first}` talks to it, `olivine serve DIR` answers requests that name it as their "
        f"`model`, `olivine bench DIR --adapter {first}` times it beside the base. The numbers under Measured are of "
        "the model without places for adapters, which cost a little time in each projection."
    )
