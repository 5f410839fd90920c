"""The calibration text of a study or a build: which text it is, and its windows in the cache."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
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
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.learn.own_text import own_text
from olivine.passes.store.cache import Cache
from olivine.search.builds.own_openings import openings_of
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
        seed: of the split, of the choice of windows and of the model's own text.
        texts: further texts, as ``text``, each of as many windows.
        own: share of all windows that the float base writes itself, below 1.
    """

    text: str | Mapping[str, Any] = "demo:news"
    windows: int = 16
    window_tokens: int = 512
    seed: int = 0
    texts: tuple[str | Mapping[str, Any], ...] = ()
    own: float = 0.0

    @classmethod
    def of_study(cls, config: LanguageStudyConfig) -> CalibrationText:
        """The text that a study calibrates on: another part of what it scores, and what its YAML names besides."""
        about = config.calibration
        texts = tuple(map(text_spec, about.texts))
        text = text_spec(config.evaluation.text)
        return cls(text, about.windows, about.window_tokens, config.seed, texts, about.own or 0.0)

    def store(self, base: ModelArtifact, cache: Cache) -> Calibration:
        """Cut the texts as the base's tokenizer sees them, let the base write its own, and keep all windows.

        They stand in the cache, those of all texts in turns: what learns from the first few has seen several kinds.

        Raises:
            UsageError: when a text can't be read, or gives not even one window.
        """
        context = int(base.genai_config()["model"]["context_length"])
        length = min(self.window_tokens, context)
        given = [self._windows(text, length, base) for text in (self.text, *self.texts)]
        written, note = self._own(sum(map(len, given)), length, base, cache)
        key = store_tokens(cache, _in_turns([given[0], written, *given[1:]]))
        own = self.own if len(written) else 0.0
        text = CalibrationText(self.text, max(map(len, given)), length, self.seed, self.texts, own)
        return Calibration(text, TextSource.parse(self.text).name, key, (note,) if note else ())

    def _windows(self, spec: str | Mapping[str, Any], length: int, base: ModelArtifact) -> np.ndarray:
        """Windows of one text, int32 [windows, length]."""
        source, protocol = TextSource.parse(spec), TextProtocol(length, length)
        joined = protocol.joiner.join(splits(source.documents(ChatTemplate(base.path).render), self.seed)[SPLIT])
        text = tokenize(joined, base.path)
        count = max(1, min(self.windows, len(cut(text, protocol))))
        windows = draw(text, protocol, count, self.seed, f"{source.name} ({SPLIT})")
        return np.array([window.tokens for window in windows], np.int32)

    def _own(self, given: int, length: int, base: ModelArtifact, cache: Cache) -> tuple[np.ndarray, str]:
        """Windows that the base writes beside so many given ones, int32 [count, length]; none, and why, if it can't."""
        count = own_windows(given, self.own)
        if not count:
            return np.empty((0, length), np.int32), ""
        try:
            return own_text(base, openings_of(base), count, length, self.seed, cache), ""
        except (PassRefused, BuildFailed) as error:  # candidates can learn from the other texts
            return np.empty((0, length), np.int32), f"candidates learn from the given text alone. {error}"


def own_windows(given: int, share: float) -> int:
    """Windows of a model's own text that are this share of all, beside so many given ones."""
    return round(given * share / (1 - share))


def _in_turns(texts: Sequence[np.ndarray]) -> np.ndarray:
    """Windows of several texts, int32 [windows, length], one of each text after the other."""
    most = max(map(len, texts))
    return np.stack([text[number] for number in range(most) for text in texts if number < len(text)])


@dataclass(frozen=True)
class Calibration:
    """Calibration text as it was cut.

    Attributes:
        text: with the windows and tokens that there truly were.
        name: what results call the text.
        key: what builds know its windows by.
        notes: sentences on text that could not be had.
    """

    text: CalibrationText
    name: str
    key: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The entry of a manifest."""
        about = asdict(self.text) | {"text": self.name}
        about["texts"] = [TextSource.parse(text).name for text in self.text.texts]
        if not self.text.texts:
            del about["texts"]
        if not self.text.own:
            del about["own"]
        return {**about, "split": SPLIT, "key": self.key}

    @property
    def entries(self) -> tuple[str, ...]:
        """The cache entry of the windows."""
        return (self.key,)

    def flags(self) -> list[str]:
        """The flags of ``olivine build`` that give the same windows."""
        text = self.text
        given: list[tuple[str, Any]] = [
            ("text", _flag(text.text)),
            ("windows", text.windows),
            ("window-tokens", text.window_tokens),
            ("seed", text.seed),
            *(("also", _flag(other)) for other in text.texts),
            *((("own", text.own),) if text.own else ()),
        ]
        return [f"--calibrate-{name} {shlex.quote(str(value))}" for name, value in given]


def _flag(text: str | Mapping[str, Any]) -> str:
    return text if isinstance(text, str) else _one_line(text)


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
