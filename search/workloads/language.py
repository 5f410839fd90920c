"""LanguageWorkload: studies of language models, which ONNX Runtime GenAI runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from olivine.evaluators.data.text_source import TextSource
from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.memory import Memory
from olivine.evaluators.metric import ANSWER_METRICS, SCENARIO_METRICS, ModelKind
from olivine.evaluators.process.client import Loop
from olivine.evaluators.providers.interpreters import loop_of, process_options
from olivine.evaluators.scenario.deployed import Deployed
from olivine.evaluators.scenario.prompts import (
    Prompt,
    digest_of_prompts,
    read_prompts,
    split_prompts,
    timed_prompt,
)
from olivine.evaluators.scenario.scenario import prompts_file
from olivine.passes.artifact import GENAI_CONFIG, ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.export.export import float_type
from olivine.passes.graph import linears, load_graph
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.cache import Cache
from olivine.search.builds.calibration_text import Calibration, CalibrationText, may_calibrate
from olivine.search.builds.study_cache import language_bytes
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.scenario.effects import check_fits
from olivine.search.export.folder import export_model
from olivine.search.export.manifest import build_command
from olivine.search.front_csv import FrontColumns
from olivine.search.records import Metrics, TrialRecord
from olivine.search.samplers.cost_model import CostModel
from olivine.search.samplers.deployed_memory import DecoderSizes, DeployedMemory
from olivine.search.samplers.factory import make_cost_model, sampler_name
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.memory_mask import MemoryMask, memory_limit
from olivine.search.samplers.slow_kernels import choose_masks
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.codes import check_codes
from olivine.search.workloads.scored_text import OtherText, ScoredText, Scoring
from olivine.search.workloads.stage import Split, Stage
from olivine.search.workloads.timed_answers import check_count, searches_guesses, timed_stage
from olivine.search.workloads.workload import Candidate, LearnedFrom

#: Parts of the config that make a study another one when they change; ``scenario`` too, where there is one.
_FIXED = ("model", "revision", "space", "objectives", "constraints", "evaluation", "calibration", "seed")
#: Axes whose fixed value the base takes, beside those that every base inherits.
_OF_BASE = ("threads", "spinning", "rotate")


class LanguageWorkload:
    """Builds GenAI folders; measures memory, quality on text, then prefill and decode.

    Args:
        config: of the study.
        folder: of the study.
        reading: the base's times as the worker that leads has measured them; empty where this process leads.
    """

    kind: ModelKind = "language"
    catalog = LANGUAGE
    exported = GENAI_CONFIG
    one_behind = True
    usual_threads = 1
    libraries = ("olivine", "onnxruntime", "onnxruntime-genai", "onnx-ir", "torch", "transformers", "optuna")
    columns = FrontColumns(
        metrics=(
            "tpot_ms",
            "tpot_speedup",
            "ttft_ms",
            "ttft_speedup",
            "perplexity",
            "perplexity_ratio",
            "kl_divergence",
            "top1_agreement",
            "model_bytes",
            "peak_rss_bytes",
        ),
        with_interval=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
        searched=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
    )

    def __init__(
        self, config: LanguageStudyConfig, folder: StudyDir, reading: Mapping[str, float] | None = None
    ) -> None:
        self.config, self._folder, self._reading = config, folder, dict(reading or {})
        self.fixed = _FIXED if config.scenario is None else (*_FIXED, "scenario")
        if config.scenario is not None:
            guesses = ANSWER_METRICS if searches_guesses(config) else ()
            self.columns = replace(self.columns, later=("e2e_ms", *SCENARIO_METRICS, *guesses))
        self.loop: Loop = loop_of(config.asked_providers())
        self.audit, self.lm_eval = config.evaluation.audit or 0.0, config.evaluation.lm_eval

    def identity(self) -> dict[str, Any]:
        """Parts of the config that make a study another one when they change; what confirmation adds may come later."""
        parts = {name: getattr(self.config, name) for name in self.fixed}
        return parts | {"evaluation": self.config.evaluation.model_copy(update={"lm_eval": None, "other_texts": None})}

    def check_data(self) -> dict[str, str]:
        """Read the text, parts of which the study learns from and is scored on."""
        evaluation, calibration = self.config.evaluation, self.config.calibration
        texts = {"evaluation.text": evaluation.text}
        texts |= {f"evaluation.other_texts.{name}": text for name, text in (evaluation.other_texts or {}).items()}
        texts |= {f"calibration.texts.{number}": text for number, text in enumerate(calibration.texts)}
        digests = {key: TextSource.of(text).digest() for key, text in texts.items()}
        if self.config.scenario is not None and self.config.scenario.prompts:
            check_count(self.config)
            digests["scenario.prompts"] = digest_of_prompts(prompts_file(self.config.scenario.prompts))
        return digests

    def source(self, revision: str | None = None) -> Source:
        """The model; at ``revision`` where it was measured, of a hub model."""
        config = self.config
        revision = revision or config.revision
        source = resolve(config.model, revision=revision, trust_remote_code=config.trust_remote_code)
        check_fits(config.use(), source)
        check_codes(config.space.get("precision"), source)
        return source

    def cache_limit(self, source: Source) -> int:
        """By the weights of the model."""
        return language_bytes(source)

    def base_choice(self) -> dict[str, Scalar]:
        """The float base of :func:`base_choice`."""
        return base_choice(self.config)

    def float_recipe(self, recipe: Recipe) -> Recipe | None:
        """The float graph, which the recipe goes through anyway: it brings the tokenizer that cuts the text.

        Where it writes text too it is the base, which wrote that of the study: other fusions round otherwise.
        """
        if not recipe.needs_calibration:
            return None
        return LANGUAGE.compose(self.base_choice()) if self.config.calibration.own else recipe.float_part()

    def request(self, source: Source, recipe: Recipe, learned: str | None) -> dict[str, Any]:
        """Model and calibration text."""
        return {
            "model": source.model,
            "revision": source.revision,
            "trust_remote_code": source.trust_remote_code,
            "calibration": learned,
        }

    def learn_from(self, base: ModelArtifact, cache: Cache) -> Calibration | None:
        """Calibration text, where a candidate or the sampler learns from it."""
        if not may_calibrate(self.config) and self.config.sampler.name != "forecast":
            return None
        return CalibrationText.of_study(self.config).store(base, cache)

    def stages(self, base: ModelArtifact, metrics: Metrics, split: Split) -> tuple[Stage, ...]:
        """Memory, the folder as it is deployed where there is a scenario, quality window by window, then latency."""
        evaluation, confirm, seed = self.config.evaluation, self.config.confirm, self.config.seed
        confirming = split == "confirm"
        count = (confirm.windows if confirming else None) or evaluation.windows
        scoring = Scoring(self.config, base, self._folder.root / "reference", self.loop)
        quality = ScoredText(scoring.quality(evaluation.text, split, count))
        others = self._others(scoring, count) if confirming or not metrics else ()
        timing, use = evaluation.latency, self.config.use()
        prompts = self._prompts(base)
        deployed: tuple[Stage, ...] = ()
        if use is not None:
            longest = prompts[-1].ids if prompts else ()
            deployed = (Stage("deployed", "latency", Deployed(use, longest), rung="deployed memory"),)
        timed = timed_prompt(prompts)
        prompt_tokens = len(timed) or timing.prompt_tokens
        latency = PairedDecoderLatency(
            prompt_tokens=prompt_tokens,
            new_tokens=timing.new_tokens,
            half_width=timing.half_width,
            max_seconds=(confirm.max_seconds if confirming else None) or timing.max_seconds,
            seed=seed + confirming,
            baseline_times=self._times(confirming),
            prompt=timed,
        )
        return (
            Stage("load", "latency", Memory(prompt_tokens)),
            *deployed,
            Stage("quality", "quality", quality, rung="memory and full text", until=quality.until),
            *(others if confirming else ()),
            timed_stage(latency, split_prompts(prompts, confirming)),
        )

    def _prompts(self, base: ModelArtifact) -> list[Prompt]:
        """The prompts of the scenario's file, as the base's tokenizer cuts them; none where it has none."""
        use = self.config.use()
        return read_prompts(use, base.path) if use is not None and use.prompts else []

    def _others(self, scoring: Scoring, count: int) -> tuple[Stage, ...]:
        """A stage for each text of another kind; only confirmation has them, but that they can be read shows early."""
        texts = (self.config.evaluation.other_texts or {}).items()
        scored = [(name, OtherText(name, scoring.quality(text, "confirm", count, fewer=True))) for name, text in texts]
        return tuple(Stage(f"quality on {name}", "quality", other) for name, other in scored)

    def reading(self, metrics: Metrics) -> dict[str, float]:
        """The base's times that all workers go by."""
        times = self._times(False)
        return {"ttft_ms": times.ttft_ms, "tpot_ms": times.tpot_ms}

    def _times(self, confirming: bool) -> BaselineTimes:
        """While the search runs the reading must not move; in confirmation it rests on all that the search took."""
        if self._reading:
            return BaselineTimes.fixed(**self._reading)
        if confirming:
            return BaselineTimes(self._folder.base_times_path).snapshot()
        return BaselineTimes(self._folder.base_times_path, first=1)

    def kernel_probe(self, base: ModelArtifact, cache: Path) -> Callable[[], Masks] | None:
        """Probe the kernels that the space uses, unless the config says not to."""
        config = self.config
        if not config.kernel_probe:
            return None

        def probe() -> Masks:
            shapes = [layer.shape for layer in linears(load_graph(base.onnx_path()))]
            timed = len(timed_prompt(self._prompts(base)))
            return choose_masks(config, shapes, cache, prompt_tokens=timed or None)

        return probe

    def memory_mask(self, base: ModelArtifact, record: TrialRecord) -> MemoryMask | None:
        """Predict the resident peak of recipes in the scenario, by what the base took, where a constraint limits it."""
        limit, use = memory_limit(self.config.parsed_constraints()), self.config.use()
        if limit is None or use is None or self.loop != "genai":
            return None
        prompts = self._prompts(base)
        longest = len(prompts[-1].ids) if prompts else 0
        memory = DeployedMemory.of(DecoderSizes.of_folder(base.path), use, longest).corrected(record)
        mask = MemoryMask(limit, memory)
        mask.check(self.config.search_space())
        return mask

    def sampler(self, masks: Masks) -> str:
        """The sampler of the config; see :func:`sampler_name`."""
        return sampler_name(self.config, masks)

    def model_bytes(self, artifact: ModelArtifact) -> int:
        """Bytes of the decoder and its weights."""
        return artifact.model_bytes()

    def cost_model(
        self, base: TrialRecord, losses: Callable[[Recipe], Mapping[str, LayerLoss]], masks: Masks
    ) -> CostModel:
        """Expected losses of the model's layers, and times of the kernels that candidates may run them with.

        Args:
            base: record of the base.
            losses: tells the expected loss of each layer of a recipe's float graph.
            masks: what the kernel probe measured.

        Raises:
            PassRefused: when sensitivities can't be learned, or candidates run elsewhere than on the CPU.
        """
        return make_cost_model(self.config, base, losses, masks)

    def export(self, candidate: Candidate, to: Path, manifest: Mapping[str, Any], picture: str = "") -> Path:
        """An ONNX Runtime GenAI folder, with a card; it is checked by the likelihood of a text."""
        options = process_options(candidate.recipe.provider, self.config.pythons())
        return export_model(candidate.artifact, to, manifest, options, picture, candidate.adapters)

    def rebuild(self, commit: str | None, choice: Mapping[str, Scalar], learned: LearnedFrom | None) -> str:
        """``olivine build`` with the commit of a hub model and the calibration text."""
        config = self.config
        flags = [f"--revision {commit}"] if commit else []
        flags += ["--trust-remote-code"] if config.trust_remote_code else []
        return build_command(LANGUAGE, config.model, flags, choice, learned.flags() if learned else [])


def base_choice(config: LanguageStudyConfig) -> dict[str, Scalar]:
    """The float base: the provider's float type and the builder's own fusions, with the threads candidates get.

    Its head is pruned where theirs is, or may be: speedups compare like with like, and what a candidate without it
    loses in prefill counts.
    """
    fixed = {d.axis.name: d.values[0] for d in config.search_space().domains if len(d.values) == 1}
    provider = str(fixed.get("provider", "cpu"))
    inherited = [*_OF_BASE, *(axis.name for axis in LANGUAGE.axes.values() if axis.base_inherits)]
    shared: dict[str, Scalar] = {name: fixed[name] for name in inherited if name in fixed}
    searched = [LANGUAGE.axes[name] for name in inherited if name in config.space and name not in fixed]
    shared |= {axis.name: axis.base_value for axis in searched if axis.base_value is not None}
    return LANGUAGE.canonical({"provider": provider, "precision": float_type(provider, "int4"), **shared})
