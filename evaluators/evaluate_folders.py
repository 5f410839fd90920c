"""Quality of model folders on a text, by themselves or beside a reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.evaluators.data.windows import PROTOCOLS, TextProtocol, TokenizedText, Window, draw, total_tokens
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.model_folders import check_context, in_order, stamped
from olivine.evaluators.providers.interpreters import folder_options
from olivine.evaluators.quality.streamed.base import StreamedBase
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.quality.unpruned import GRAPH, open_scored
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.sources.checkpoint import read_config
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.passes.store.cache import scratch_folder
from olivine.passes.transforms.prune_head import is_pruned

#: Metrics of a model by itself; the other ones need a reference.
ALONE = ("perplexity", "bits_per_byte")
TOP_K = 512
#: A token id and a log-probability of the reference's distribution, in memory and on disk.
_BYTES_PER_KEPT_TOKEN = 8


@dataclass(frozen=True)
class ScoredText:
    """The text that folders are scored on.

    Attributes:
        spec: ``demo:news``, the path of a file, or a mapping as :meth:`TextSource.parse` takes it.
        windows: number of windows, drawn at random by ``seed``; None for the whole text.
        window_tokens: tokens per window, without overlap; not used with a named protocol.
        protocol_name: one of ``PROTOCOLS``, for numbers that compare with published ones.
        split: ``calibrate``, ``select`` or ``confirm``, as a study with this seed splits; None for all.
        seed: of the split and of the order of windows.
    """

    spec: str | Mapping[str, Any]
    windows: int | None = None
    window_tokens: int = 512
    protocol_name: str | None = None
    split: str | None = None
    seed: int = 0

    def protocol(self) -> TextProtocol:
        """Rules by which documents become windows.

        Raises:
            UsageError: for an unknown protocol, or a window that scores no token.
        """
        name = self.protocol_name
        if name is None:
            if self.window_tokens < 2:
                raise UsageError(f"A window of {self.window_tokens} tokens scores none; it takes at least 2.")
            return TextProtocol(window_tokens=self.window_tokens, stride=self.window_tokens)
        if name not in PROTOCOLS:
            raise UsageError(f"Unknown protocol '{name}'. {did_you_mean(name, PROTOCOLS)}")
        return PROTOCOLS[name]

    def read(self, source: TextSource, model: Path) -> str:
        """The documents joined; published protocols keep the blank ones, which are part of their text.

        Args:
            source: of the documents.
            model: folder whose chat template puts chat messages into text.

        Raises:
            UsageError: when the text can't be read or has no such split.
        """
        documents = source.documents(ChatTemplate(model).render)
        if self.split is not None:
            if self.split not in SPLITS:
                raise UsageError(f"Unknown split '{self.split}'. {did_you_mean(self.split, SPLITS)}")
            documents = splits(documents, self.seed)[self.split]
        published = self.protocol_name is not None
        return self.protocol().joiner.join(document for document in documents if published or document.strip())

    def facts(self, source: TextSource) -> dict[str, Any]:
        """Description for the protocol of a measurement."""
        return {
            "text": source.name,
            "split": self.split or "all",
            "protocol": self.protocol_name,
            **self.protocol().to_dict(),
            "seed": self.seed,
        }


def evaluate_folders(folders: Sequence[Path], reference: Path | None, text: ScoredText) -> dict[str, list[Measurement]]:
    """Score every folder on a text; one model at a time is loaded.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: the folder to which ratio, divergence and agreement are taken; None for the metrics in ``ALONE``.
        text: to score.

    Returns:
        Folder -> measurements, the reference first where there is one.

    Raises:
        UsageError: before any model loads: an unknown text or protocol, a text that is too short, a folder
            without a model, or a reference with another tokenizer.
        QualityGateFailed: when a model's logits are not finite.
        ModelProcessFailed: when a model does not load or run, naming its folder.
    """
    protocol = text.protocol()
    source = TextSource.parse(text.spec)
    first, others = in_order(folders, reference)
    for folder in (first, *others):
        check_context(folder, protocol.window_tokens, "the tokens of a window")
    words = text.read(source, first)
    tokenized = {folder: tokenize(words, folder) for folder in (first, *others)}
    if reference is not None:
        for folder in others:
            _check_same_tokenizer(first, folder, tokenized[first], tokenized[folder])
    windows = {
        folder: draw(tokens, protocol, text.windows, text.seed, source.name) for folder, tokens in tokenized.items()
    }
    facts = text.facts(source)
    if reference is None:
        return {str(folder): _alone(folder, windows[folder], facts) for folder in windows}
    return _beside(first, others, windows[first], facts)


def evaluate_against_checkpoint(
    folders: Sequence[Path], checkpoint: Path, text: ScoredText, note: Callable[[str], None]
) -> dict[str, list[Measurement]]:
    """The same beside a Hugging Face checkpoint, whose layers are loaded one at a time, in float32.

    Args:
        folders: ONNX Runtime GenAI folders.
        checkpoint: folder with config.json, tokenizer and safetensors.
        text: to score.
        note: told a line for each layer.

    Raises:
        UsageError: also where the checkpoint can't be run layer by layer.
    """
    protocol, source = text.protocol(), TextSource.parse(text.spec)
    first, others = in_order(folders, None)
    for folder in (first, *others):
        check_context(folder, protocol.window_tokens, "the tokens of a window")
    words = text.read(source, checkpoint)
    tokens = tokenize(words, checkpoint)
    for folder in (first, *others):
        _check_same_tokenizer(checkpoint, folder, tokens, tokenize(words, folder))
    windows = draw(tokens, protocol, text.windows, text.seed, source.name)
    _check_memory(windows)
    with scratch_folder("eval") as store:
        quality = TextQuality(windows, store, str(checkpoint), top_k=TOP_K, protocol=text.facts(source))
        asked = [(window.tokens, window.scored) for window in windows]
        if not StreamedBase(lambda: checkpoint).write(asked, quality.reference_path(), TOP_K, note):
            raise UsageError(
                f"{checkpoint} can't be scored layer by layer. Make its float graph with 'olivine build {checkpoint} "
                "--to DIR --set precision=fp32', and name that folder as the reference."
            )
        runtime = {"provider": "transformers", "precision": "float32, one layer at a time"}
        base = [replace(m, protocol={**m.protocol, **runtime}) for m in quality.evaluate_base()]
        results = {str(checkpoint): base}
        for folder in (first, *others):
            with open_scored(folder, **folder_options(folder)) as process:
                results[str(folder)] = stamped(quality.evaluate(process, None), process, graph=_graph(folder))
    return results


def _check_same_tokenizer(a: Path, b: Path, in_a: TokenizedText, in_b: TokenizedText) -> None:
    """Refuse models that do not predict the same tokens.

    Raises:
        UsageError: saying what differs, and what compares such models.
    """
    sizes = [_vocabulary_size(folder) for folder in (a, b)]
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


def _vocabulary_size(folder: Path) -> int:
    """Token ids that a model folder or a checkpoint predicts."""
    if (folder / "genai_config.json").is_file():
        return int(read_genai_config(folder)["model"]["vocab_size"])
    config = read_config(folder / "config.json", str(folder))
    return int(config.get("text_config", config)["vocab_size"])


def _vocabulary(folder: Path) -> Any:
    """The token ids of a tokenizer.json; None where the folder has none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    return tokenizer["model"].get("vocab"), {t["id"]: t["content"] for t in tokenizer.get("added_tokens") or []}


def _alone(folder: Path, windows: tuple[Window, ...], facts: Mapping[str, Any]) -> list[Measurement]:
    """Measure perplexity and bits per byte: the model is its own reference, of which next to nothing is kept."""
    with scratch_folder("eval") as store, open_scored(folder, **folder_options(folder)) as process:
        quality = TextQuality(windows, store, str(folder), top_k=1, protocol=facts)
        measurements = [m for m in quality.evaluate(process, process) if m.metric in ALONE]
        return stamped(measurements, process, graph=_graph(folder))


def _beside(
    reference: Path, others: Sequence[Path], windows: tuple[Window, ...], facts: Mapping[str, Any]
) -> dict[str, list[Measurement]]:
    _check_memory(windows)
    with scratch_folder("eval") as store:
        quality = TextQuality(windows, store, str(reference), top_k=TOP_K, protocol=facts)
        with open_scored(reference, **folder_options(reference)) as base:
            results = {str(reference): stamped(quality.evaluate(base, base), base, graph=_graph(reference))}
        # The reference's predictions are stored by now: its process has ended and gets no more requests.
        for folder in others:
            with open_scored(folder, **folder_options(folder)) as process:
                results[str(folder)] = stamped(quality.evaluate(process, base), process, graph=_graph(folder))
    return results


def _graph(folder: Path) -> str | None:
    """Name of the graph that is scored in the place of a model with a pruned head; None for other models."""
    return GRAPH if is_pruned(folder) else None


def _check_memory(windows: Sequence[Window]) -> None:
    need, free = total_tokens(windows) * TOP_K * _BYTES_PER_KEPT_TOKEN, psutil.virtual_memory().available
    if need > free / 2:
        raise UsageError(
            f"The reference's predictions for {len(windows)} windows take {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free. Ask for fewer windows."
        )
