"""The calibration text of a study or a build: which text it is, and its windows in the cache."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.evaluators.data.windows import TextProtocol, cut, draw
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.store.cache import Cache
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import TextChoice

SPLIT = "calibrate"


@dataclass(frozen=True)
class CalibrationText:
    """The text that passes may learn from; a study never scores it.

    Attributes:
        text: ``demo:news``, the path of a file, or a mapping as :meth:`TextSource.parse` takes it.
        windows: at most this many; fewer where the text gives no more.
        window_tokens: tokens per window; fewer where the model's context is shorter.
        seed: of the split and of the choice of windows.
    """

    text: str | Mapping[str, Any] = "demo:news"
    windows: int = 16
    window_tokens: int = 512
    seed: int = 0

    @classmethod
    def of_study(cls, config: LanguageStudyConfig) -> CalibrationText:
        """The text that a study calibrates on: another part of what it scores."""
        return cls(
            text_spec(config.evaluation.text), config.calibration.windows, config.calibration.window_tokens, config.seed
        )

    def store(self, base: ModelArtifact, cache: Cache) -> Calibration:
        """Cut the text as the base's tokenizer sees it, and keep the windows in the cache.

        Raises:
            UsageError: when the text can't be read, or gives not even one window.
        """
        source = TextSource.parse(self.text)
        context = int(base.genai_config()["model"]["context_length"])
        length = min(self.window_tokens, context)
        protocol = TextProtocol(length, length)
        joined = protocol.joiner.join(splits(source.documents(ChatTemplate(base.path).render), self.seed)[SPLIT])
        text = tokenize(joined, base.path)
        count = max(1, min(self.windows, len(cut(text, protocol))))
        windows = draw(text, protocol, count, self.seed, f"{source.name} ({SPLIT})")
        key = store_tokens(cache, np.array([window.tokens for window in windows], np.int32))
        return Calibration(CalibrationText(self.text, count, length, self.seed), source.name, key)


@dataclass(frozen=True)
class Calibration:
    """Calibration text as it was cut.

    Attributes:
        text: with the windows and tokens that there truly were.
        name: what results call the text.
        key: what builds know its windows by.
    """

    text: CalibrationText
    name: str
    key: str

    def to_json(self) -> dict[str, Any]:
        """The entry of a manifest."""
        about = asdict(self.text) | {"text": self.name}
        return {**about, "split": SPLIT, "key": self.key}

    @property
    def entries(self) -> tuple[str, ...]:
        """The cache entry of the windows."""
        return (self.key,)

    def flags(self) -> list[str]:
        """The flags of ``olivine build`` that give the same windows."""
        text = self.text.text
        values = {
            "text": text if isinstance(text, str) else _one_line(text),
            "windows": self.text.windows,
            "window-tokens": self.text.window_tokens,
            "seed": self.text.seed,
        }
        return [f"--calibrate-{name} {shlex.quote(str(value))}" for name, value in values.items()]


def _one_line(text: Mapping[str, Any]) -> str:
    return str(text["file"]) if set(text) == {"file"} else json.dumps(text)


def parse_text(words: str) -> str | Mapping[str, Any]:
    """Parse the value of ``--calibrate-text``: ``demo:news``, the path of a file, or a mapping in braces."""
    return yaml.safe_load(words) if words.startswith("{") else words


def text_spec(text: TextChoice) -> str | dict[str, Any]:
    """A text of a config as :meth:`TextSource.parse` takes it."""
    return text if isinstance(text, str) else text.model_dump(exclude_defaults=True)


def may_calibrate(config: LanguageStudyConfig) -> bool:
    """True where a candidate of this study may learn from calibration text."""
    return any(value in LANGUAGE.axes[name].calibrated for name, value in _values(config))


def _values(config: LanguageStudyConfig) -> Iterator[tuple[str, Scalar]]:
    for domain in config.search_space().domains:
        yield from ((domain.axis.name, value) for value in domain.values)
    for choice in config.enqueue:
        yield from choice.items()
