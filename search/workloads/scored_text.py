"""The texts that candidates of a language model are scored on: windows of each, and evaluators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.evaluators.data.windows import TextProtocol, cut, draw
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import BY_TEXT, on_text
from olivine.evaluators.process.client import Loop, ModelProcess
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.quality.unpruned import run_quality
from olivine.passes.artifact import ModelArtifact
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import TextChoice
from olivine.search.workloads.stage import Split, StopRule


@dataclass(frozen=True)
class Scoring:
    """The way in which a study scores texts.

    Attributes:
        config: of the study.
        base: whose tokenizer cuts the texts, and whose predictions are compared with.
        store: folder where these predictions are kept.
        loop: runs the models.
    """

    config: LanguageStudyConfig
    base: ModelArtifact
    store: Path
    loop: Loop

    def quality(self, text: TextChoice, split: Split, count: int, fewer: bool = False) -> TextQuality:
        """Quality on ``count`` windows of one split of a text.

        Args:
            text: as a config names it.
            split: of its documents.
            count: of windows.
            fewer: a short text may give fewer windows.

        Raises:
            UsageError: when the text can't be read, or is too short.
        """
        length, seed = self.config.evaluation.window_tokens, self.config.seed
        source, protocol = TextSource.of(text), TextProtocol(length, length)
        documents = source.documents(ChatTemplate(self.base.path).render)
        tokens = tokenize(protocol.joiner.join(splits(documents, seed)[split]), self.base.path)
        wanted = max(2, min(count, len(cut(tokens, protocol)))) if fewer else count
        windows = draw(tokens, protocol, wanted, seed, f"{source.name} ({split})")
        about = {"text": source.name, "split": split, "window_tokens": length, "seed": seed, "loop": self.loop}
        return TextQuality(windows, self.store, self.base.key, protocol=about)


@dataclass(frozen=True)
class ScoredText:
    """Quality of a candidate; a model with a pruned head is scored by its unpruned twin."""

    quality: TextQuality

    def evaluate(self, candidate: ModelProcess, reference: ModelProcess) -> list[Measurement]:
        """Score the windows."""
        return run_quality(self.quality, candidate, reference).measurements

    def until(self, stop: StopRule) -> ScoredText:
        """The same, with a stop rule that is asked after each window."""
        return ScoredText(replace(self.quality, stop=stop))


@dataclass(frozen=True)
class OtherText:
    """Quality on a text of another kind than the study's own, which its metrics name.

    Attributes:
        name: of the text in the config.
        quality: on its windows.
    """

    name: str
    quality: TextQuality

    def evaluate(self, candidate: ModelProcess, reference: ModelProcess) -> list[Measurement]:
        """Score the windows; only what depends on the kind of text is kept."""
        found = run_quality(self.quality, candidate, reference).measurements
        return [replace(m, metric=on_text(m.metric, self.name)) for m in found if m.metric in BY_TEXT]
