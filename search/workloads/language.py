"""What a study measures with: its evaluators, on one split of its text, as its config says."""

from __future__ import annotations

from pathlib import Path

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.evaluators.data.windows import TextProtocol, Window, draw
from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.memory import Memory
from olivine.evaluators.providers.interpreters import loop_of
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.passes.artifact import ModelArtifact
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.study.objective import Evaluators
from olivine.search.study_dir import StudyDir


def make_evaluators(
    config: LanguageStudyConfig, base: ModelArtifact, folder: StudyDir, split: str, pool: BaselineTimes
) -> Evaluators:
    """The evaluators of a study, on the ``select`` or the ``confirm`` split of its text."""
    evaluation, latency = config.evaluation, config.evaluation.latency
    confirming = split == "confirm"
    count = (config.confirm.windows if confirming else None) or evaluation.windows
    name, windows = text_windows(config, base.path, split, count)
    quality = TextQuality(
        windows=windows,
        store=folder.root / "reference",
        reference_key=base.key,
        protocol={
            "text": name,
            "split": split,
            "window_tokens": evaluation.window_tokens,
            "seed": config.seed,
            "loop": loop_of(config.asked_providers()),
        },
    )
    seconds = (config.confirm.max_seconds if confirming else None) or latency.max_seconds
    timing = PairedDecoderLatency(
        prompt_tokens=latency.prompt_tokens,
        new_tokens=latency.new_tokens,
        half_width=latency.half_width,
        max_seconds=seconds,
        seed=config.seed + confirming,
        baseline_times=pool,
    )
    return Evaluators(Memory(latency.prompt_tokens), quality, timing)


def text_windows(config: LanguageStudyConfig, model: Path, split: str, count: int) -> tuple[str, tuple[Window, ...]]:
    """Windows of one split of the study's text, as the model's tokenizer cuts it; and the text's name."""
    source = TextSource.of(config.evaluation.text)
    protocol = TextProtocol(config.evaluation.window_tokens, config.evaluation.window_tokens)
    documents = source.documents(ChatTemplate(model).render)
    text = protocol.joiner.join(splits(documents, config.seed)[split])
    return source.name, draw(tokenize(text, model), protocol, count, config.seed, f"{source.name} ({split})")
