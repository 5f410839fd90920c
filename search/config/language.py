"""LanguageStudyConfig: the YAML of a study of a language model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from olivine.evaluators.data.text_source import DEMO_TEXTS
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import did_you_mean
from olivine.passes.sources.source import DEMO, DEMOS
from olivine.search.config.goal_mistakes import goal_metrics
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import Part, Share, Switch, Text, Whole
from olivine.search.config.scenario.effects import scenario_mistakes, with_scenario
from olivine.search.config.scenario.section import ScenarioChoice
from olivine.search.config.scenario.speculation import speculation_mistakes
from olivine.search.config.sections import HalfWidth, MaxSeconds, Section, StudyConfig, TextChoice

_OTHERS = "evaluation.other_texts."
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class LatencyConfig(Section):
    """Timing of prefill and decode, base and candidate side by side."""

    prompt_tokens: Whole = Field(default=128, ge=1, le=131072, description="length of the prompt that is deployed")
    new_tokens: Whole = Field(default=32, ge=2, le=131072, description="tokens generated after it")
    half_width: HalfWidth = 0.02
    max_seconds: MaxSeconds = 10.0


class LmEvalConfig(Section):
    """Tasks of lm-eval, measured on the base and the confirmed front; needs the extra ``olivine[lm-eval]``."""

    tasks: tuple[Text, ...] = Field(min_length=1, description="tasks or groups of lm-eval, such as [arc_easy]")
    limit: Whole | None = Field(default=None, ge=1, description="questions of each task, from its start; or all")
    include_path: Text | None = Field(default=None, description="folder with task files of your own")


class EvaluationConfig(Section):
    """Measurements of a candidate beside the base, and their text."""

    text: TextChoice = Field(
        default="demo:news",
        description="demo:news, a local file, or a hub dataset; split into calibrate, select and confirm",
    )
    other_texts: dict[str, TextChoice] | None = Field(
        default=None,
        description="name -> a text of another kind, which nothing learns from; confirmation scores on it too, "
        "and limits hold there as well; {} for none. A new study on demo:news has {encyclopedia: demo:encyclopedia}",
    )
    windows: Whole = Field(default=16, ge=2, le=100_000, description="windows of text scored per candidate")
    window_tokens: Whole = Field(default=512, ge=8, le=131072, description="tokens per window")
    audit: Share | None = Field(
        default=0.1, description="share of the candidates dropped on few windows that are measured in full anyway"
    )
    latency: LatencyConfig = LatencyConfig()
    lm_eval: LmEvalConfig | None = Field(
        default=None, description="tasks of lm-eval on the confirmed front; not part of stop.total"
    )


class CalibrationConfig(Section):
    """Text that passes may learn from (algorithm: gptq): the `calibrate` part of `evaluation.text`, and others."""

    windows: Whole = Field(default=16, ge=1, le=100_000, description="windows of text; fewer where there are no more")
    window_tokens: Whole = Field(
        default=512, ge=8, le=131072, description="tokens per window; fewer where the model's context is shorter"
    )
    texts: tuple[TextChoice, ...] = Field(
        default=(), description="further texts to learn from, each as many windows as there are of evaluation.text"
    )
    own: Part | None = Field(
        default=None,
        description="share of all windows that the float base writes itself, which shows every kind of text that it "
        "knows; 0 for none",
    )


class LanguageStudyConfig(StudyConfig):
    """One study of a language model: one YAML file."""

    kind = "language"
    catalog = LANGUAGE

    model: Text = Field(description="hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model")
    objectives: tuple[Text, ...] = Field(
        default=("tpot_ms", "perplexity_ratio"),
        min_length=2,
        max_length=3,
        description="two or three metrics to optimize",
    )
    constraints: tuple[Text, ...] = Field(
        default=(), description="such as perplexity_ratio <= 1.05 or model_bytes <= 250MB"
    )
    revision: Text | None = Field(default=None, description="branch, tag or commit of a hub model")
    trust_remote_code: Switch = Field(
        default=False, description="run code that the checkpoint brings; read it before you switch this on"
    )
    scenario: ScenarioChoice = Field(
        default=None,
        description="use that candidates are measured and exported for: chat, rag, summarize, code-edit, classify, "
        "agent, or a mapping; it decides the context and what is timed",
    )
    evaluation: EvaluationConfig = EvaluationConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    kernel_probe: Switch = Field(
        default=True, description="time this machine's kernels first, and propose no candidate that needs a slow one"
    )

    @model_validator(mode="before")
    @classmethod
    def _for_its_scenario(cls, raw: Any) -> Any:
        """Let the scenario decide what is its own."""
        return with_scenario(raw)

    @classmethod
    def mistakes(cls, raw: Mapping[Any, Any]) -> list[Mistake]:
        """Find the mistakes that need more than types; also in names of demos and in goals about a GPU."""
        return [
            *super().mistakes(raw),
            *_demo_mistakes(raw),
            *_text_mistakes(raw),
            *_gpu_memory_mistakes(raw),
            *scenario_mistakes(raw),
            *speculation_mistakes(raw),
            *_context_mistakes(raw),
        ]

    def use(self) -> Scenario | None:
        """The scenario that candidates are measured and exported for; None where there is none."""
        return None if self.scenario is None else self.scenario.facts()

    def other_kinds(self) -> tuple[str, ...]:
        """Names of the texts of other kinds that confirmation scores."""
        return tuple(self.evaluation.other_texts or ())

    def confirmed_share(self) -> float:
        """Text that confirmation scores / text that the search scores."""
        return (self.confirm.windows or self.evaluation.windows) / self.evaluation.windows


def _demo_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """A demo model that does not exist; other names are looked up when the study starts."""
    name, known = raw.get("model"), [DEMO + model for model in DEMOS]
    if isinstance(name, str) and name.startswith(DEMO) and name not in known:
        return [("model", f"unknown demo '{name}'. {did_you_mean(name, known)}")]
    return []


def _gpu_memory_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Goals that name the GPU's memory in a space of candidates that run elsewhere, where nothing measures it."""
    space = raw.get("space")
    providers = space.get("provider", "cpu") if isinstance(space, dict) else "cpu"
    elsewhere = sorted({str(p) for p in (providers if isinstance(providers, list) else [providers])} - {"cuda"})
    reason = (
        f"is measured on CUDA only, and candidates run on {', '.join(elsewhere)} too. Name provider: cuda in space, or "
        "ask for peak_rss_bytes"
    )
    return [
        (place, f"'gpu_memory_bytes' {reason}")
        for place, metric in goal_metrics(raw)
        if elsewhere and metric == "gpu_memory_bytes"
    ]


def _context_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find a context that has no room for what is timed; that of a scenario is held against its own lengths."""
    space, evaluation = raw.get("space"), raw.get("evaluation")
    latency = evaluation.get("latency") if isinstance(evaluation, dict) else None
    context = space.get("context") if isinstance(space, dict) else None
    (context,) = context if isinstance(context, list) and len(context) == 1 else (context,)
    if raw.get("scenario") is not None or type(context) is not int or context <= 0:
        return []
    try:
        timed = LatencyConfig.model_validate(latency or {})
    except ValidationError:  # reported with its field
        return []
    prompt, new = timed.prompt_tokens, timed.new_tokens
    if context >= prompt + new:
        return []
    reason = (
        f"{context} tokens are too few for the {prompt + new} that are timed, a prompt of {prompt} and {new} new ones. "
        "Raise it, or shorten evaluation.latency.prompt_tokens and new_tokens"
    )
    return [("space.context", reason)]


def _text_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find demo texts that do not exist, names that fit no column, and other texts that something learns from."""
    learned, others = list(_learned(raw)), list(_others(raw))
    unknown = [
        (place, f"unknown demo '{text}'. {did_you_mean(text, DEMO_TEXTS)}")
        for place, text in [*learned, *others]
        if isinstance(text, str) and text.startswith(DEMO) and text not in DEMO_TEXTS
    ]
    named = [
        (place, "a name takes small letters, digits and '_', and starts with a letter: columns of front.csv carry it")
        for place, _ in others
        if not _NAME.fullmatch(place.removeprefix(_OTHERS))
    ]
    both = [
        (place, f"this is {learned_place} too, which candidates learn from. Name a text that nothing learns from")
        for place, text in others
        for learned_place, learned_text in learned
        if text == learned_text
    ]
    return [*unknown, *named, *both]


def _learned(raw: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Place and value of each text that candidates may learn from."""
    evaluation, calibration = raw.get("evaluation"), raw.get("calibration")
    yield "evaluation.text", evaluation.get("text", "demo:news") if isinstance(evaluation, dict) else "demo:news"
    texts = calibration.get("texts") if isinstance(calibration, dict) else None
    yield from ((f"calibration.texts.{n}", text) for n, text in enumerate(texts if isinstance(texts, list) else ()))


def _others(raw: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Place and value of each text of another kind."""
    evaluation = raw.get("evaluation")
    texts = evaluation.get("other_texts") if isinstance(evaluation, dict) else None
    if isinstance(texts, dict):
        yield from ((f"{_OTHERS}{name}", text) for name, text in texts.items())
