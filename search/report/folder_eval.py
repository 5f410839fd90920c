"""Quality of model folders on a text, by themselves or beside a reference: ``olivine eval``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits, tokenize
from olivine.evaluators.data.windows import PROTOCOLS, TextProtocol, TokenizedText, Window, draw, total_tokens
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.providers.interpreters import options_for
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.quality.unpruned import GRAPH, open_scored
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.store.cache import scratch_folder
from olivine.passes.transforms.prune_head import is_pruned
from olivine.search.report.folder_bench import (
    check_context,
    comparison_table,
    in_order,
    read_genai_config,
    stamped,
)
from olivine.search.report.folder_warnings import Results, evaluation_warnings

#: What a model says of a text by itself; the other metrics need a reference.
ALONE = ("perplexity", "bits_per_byte")
TOP_K = 512
#: Half-width of a perplexity ratio's interval below which a text is long enough.
HALF_WIDTH = 0.01
#: A token id and a log-probability of the reference's distribution, in memory and on disk.
_BYTES_PER_KEPT_TOKEN = 8


def evaluate_folders(
    folders: Sequence[Path],
    reference: Path | None,
    text_spec: str | Mapping[str, Any],
    windows: int | None = None,
    window_tokens: int = 512,
    protocol_name: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> dict[str, list[Measurement]]:
    """Score every folder on a text; one model at a time is loaded.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: what ratio, divergence and agreement are taken to; None for the metrics in ``ALONE``.
        text_spec: ``demo:news``, the path of a file, or a mapping as :meth:`TextSource.parse` takes it.
        windows: how many windows, drawn at random by ``seed``; None for the whole text.
        window_tokens: tokens per window, without overlap; not used with a named protocol.
        protocol_name: one of ``PROTOCOLS``, for numbers that compare with published ones.
        split: ``calibrate``, ``select`` or ``confirm``, as a study with this seed splits; None for all.
        seed: of the split and of the order of windows.

    Returns:
        Folder -> measurements, the reference first where there is one.

    Raises:
        UsageError: before any model loads: an unknown text or protocol, a text that is too short, a folder
            without a model, or a reference with another tokenizer.
        QualityGateFailed: when a model's logits are not finite.
        ModelProcessFailed: when a model does not load or run, naming its folder.
    """
    protocol = _protocol(window_tokens, protocol_name)
    source = TextSource.parse(text_spec)
    first, others = in_order(folders, reference)
    for folder in (first, *others):
        check_context(folder, protocol.window_tokens, "the tokens of a window")
    text = _text(source, protocol, published=protocol_name is not None, split=split, seed=seed)
    seen = {folder: tokenize(text, folder) for folder in (first, *others)}
    if reference is not None:
        for folder in others:
            _check_same_tokenizer(first, folder, seen[first], seen[folder])
    cuts = {folder: draw(seen[folder], protocol, windows, seed, source.name) for folder in seen}
    about = {
        "text": source.name,
        "split": split or "all",
        "protocol": protocol_name,
        **protocol.to_dict(),
        "seed": seed,
    }
    if reference is None:
        return {str(folder): _alone(folder, cuts[folder], about) for folder in seen}
    return _beside(first, others, cuts[first], about)


def _protocol(window_tokens: int, name: str | None) -> TextProtocol:
    if name is None:
        if window_tokens < 2:
            raise UsageError(f"A window of {window_tokens} tokens scores none; it takes at least 2.")
        return TextProtocol(window_tokens=window_tokens, stride=window_tokens)
    if name not in PROTOCOLS:
        raise UsageError(f"Unknown protocol '{name}'. {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def _text(source: TextSource, protocol: TextProtocol, published: bool, split: str | None, seed: int) -> str:
    """The documents joined; published protocols keep the blank ones, which are part of their text."""
    documents = source.documents()
    if split is not None:
        if split not in SPLITS:
            raise UsageError(f"Unknown split '{split}'. {did_you_mean(split, SPLITS)}")
        documents = splits(documents, seed)[split]
    return protocol.joiner.join(d for d in documents if published or d.strip())


def _check_same_tokenizer(a: Path, b: Path, in_a: TokenizedText, in_b: TokenizedText) -> None:
    """Refuse models that do not predict the same tokens.

    Raises:
        UsageError: saying what differs, and what compares such models.
    """
    sizes = [int(read_genai_config(folder)["model"]["vocab_size"]) for folder in (a, b)]
    if sizes[0] != sizes[1]:
        what = f"{sizes[0]} and {sizes[1]} token ids"
    elif (in_a.ids, in_a.bos) != (in_b.ids, in_b.bos):
        what = f"this text is {len(in_a.ids)} tokens to one and {len(in_b.ids)} others to the other"
    elif _vocabulary(a) != _vocabulary(b):
        what = "the same ids stand for other tokens"
    else:
        return
    raise UsageError(
        f"{a} and {b} have different tokenizers ({what}): perplexity ratio, KL divergence and top-1 "
        "agreement compare predictions of the same tokens. Leave --reference out: bits_per_byte is what "
        "compares such models."
    )


def _vocabulary(folder: Path) -> Any:
    """The token ids of a tokenizer.json; None where the folder has none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["model"].get("vocab"), {t["id"]: t["content"] for t in found.get("added_tokens") or []}


def _alone(folder: Path, windows: tuple[Window, ...], about: Mapping[str, Any]) -> list[Measurement]:
    """Perplexity and bits per byte: the model is its own reference, of which next to nothing is kept."""
    with scratch_folder("eval") as store, open_scored(folder, **options_for(folder)) as process:
        quality = TextQuality(windows, store, str(folder), top_k=1, protocol=about)
        return [
            stamped(m, process, graph=_graph(folder)) for m in quality.evaluate(process, process) if m.metric in ALONE
        ]


def _beside(
    reference: Path, others: Sequence[Path], windows: tuple[Window, ...], about: Mapping[str, Any]
) -> dict[str, list[Measurement]]:
    _check_memory(windows)
    with scratch_folder("eval") as store:
        quality = TextQuality(windows, store, str(reference), top_k=TOP_K, protocol=about)
        with open_scored(reference, **options_for(reference)) as base:
            graph = _graph(reference)
            results = {str(reference): [stamped(m, base, graph=graph) for m in quality.evaluate(base, base)]}
        # What the reference predicts is stored by now: its process has ended and is asked nothing more.
        for folder in others:
            with open_scored(folder, **options_for(folder)) as process:
                results[str(folder)] = [
                    stamped(m, process, graph=_graph(folder)) for m in quality.evaluate(process, base)
                ]
    return results


def _graph(folder: Path) -> str | None:
    """What was scored in the place of a model with a pruned head."""
    return GRAPH if is_pruned(folder) else None


def _check_memory(windows: Sequence[Window]) -> None:
    need, free = total_tokens(windows) * TOP_K * _BYTES_PER_KEPT_TOKEN, psutil.virtual_memory().available
    if need > free / 2:
        raise UsageError(
            f"The reference's predictions for {len(windows)} windows take {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free. Ask for fewer windows."
        )


def evaluation_table(results: Results, reference: Path | None, half_width: float = HALF_WIDTH) -> Table:
    """Every measurement with its interval, and, beside a reference, what it says in words."""
    warnings = evaluation_warnings(results, half_width)
    if reference is not None:
        base = str(reference) if str(reference) in results else next(iter(results))
        return comparison_table(results, base, warnings)
    if len(results) > 1:
        warnings.append(
            "No reference was given: perplexities compare between models of one tokenizer only, bits "
            "per byte between all. Give --reference for a ratio."
        )
    return comparison_table(results, None, warnings)
