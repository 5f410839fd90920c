"""GraphWorkload: studies of plain ONNX graphs and encoders, which an ONNX Runtime session runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from olivine.evaluators.data.text_source import TextSource
from olivine.evaluators.latency.graph import PairedGraphLatency
from olivine.evaluators.memory import GraphMemory
from olivine.evaluators.metric import TASK_METRICS, ModelKind
from olivine.evaluators.process.client import Loop
from olivine.evaluators.providers.interpreters import process_options
from olivine.evaluators.quality.output_fidelity import Fidelity
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import GRAPH
from olivine.passes.errors import PassRefused
from olivine.passes.graphs.graph_inputs import graph_inputs
from olivine.passes.graphs.source import GRAPH_FILE, GraphSource, graph_bytes, resolve_graph
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.store.cache import DEFAULT_MAX_BYTES, Cache
from olivine.passes.store.digests import sha256_file
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.export.graph_folder import export_graph
from olivine.search.export.manifest import build_command
from olivine.search.front_csv import FrontColumns
from olivine.search.records import Metrics, TrialRecord
from olivine.search.samplers.cost_model import CostModel
from olivine.search.samplers.factory import sampler_name
from olivine.search.samplers.masks import Masks
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_samples import Samples, make_samples
from olivine.search.workloads.graph_task import Task, load_task
from olivine.search.workloads.stage import Split, Stage
from olivine.search.workloads.workload import Candidate, LearnedFrom


class GraphWorkload:
    """Builds folders of a model.onnx; measures memory, outputs beside the base's, a task's rows, then latency.

    Args:
        config: of the study.
        folder: of the study; samples are written into it.
        reading: the base's latency as the worker that leads has measured it; empty where this process leads.
    """

    kind: ModelKind = "graph"
    catalog = GRAPH
    exported = GRAPH_FILE
    one_behind = False
    usual_threads = 0
    libraries = ("olivine", "onnx", "onnxruntime", "onnx-ir", "torch", "transformers", "optuna")
    fixed = ("model", "architecture", "inputs", "space", "objectives", "constraints", "evaluation", "seed")
    columns = FrontColumns(
        metrics=(
            "latency_ms",
            "latency_speedup",
            "cosine_distance",
            "kl_divergence",
            "top1_agreement",
            *TASK_METRICS,
            "model_bytes",
            "peak_rss_bytes",
        ),
        with_interval=("latency_speedup", "cosine_distance", *TASK_METRICS),
        searched=("latency_speedup", "cosine_distance", "task_score"),
    )
    loop: Loop = "graph"
    audit, lm_eval = 0.0, None

    def __init__(self, config: GraphStudyConfig, folder: StudyDir, reading: Mapping[str, float] | None = None) -> None:
        self.config, self._folder, self._reading = config, folder, dict(reading or {})
        #: Key of a base -> its samples: written once.
        self._samples: dict[str, Samples] = {}

    def identity(self) -> dict[str, Any]:
        """Parts of the config that make a study another one when they change."""
        return {name: getattr(self.config, name) for name in self.fixed}

    @cached_property
    def _source(self) -> GraphSource:
        return resolve_graph(self.config.model, self.config.architecture)

    @cached_property
    def _task(self) -> Task | None:
        task = load_task(self.config)
        return None if task is None else task.fitted(self._source.folder)

    def check_data(self) -> dict[str, str]:
        """Look up data and metric of the task, whether they fit the model, and the samples."""
        digests, inputs, task = {}, self.config.inputs, self._task
        if inputs.text is not None:
            digests["inputs.text"] = TextSource.of(inputs.text).digest()
        if inputs.data is not None and (file := Path(inputs.data).expanduser()).is_file():
            digests["inputs.data"] = sha256_file(file)
        if task is not None:
            digests["evaluation.task.data"] = task.digest()
        return digests

    def source(self, revision: str | None = None) -> GraphSource:
        """The model; it has no revisions."""
        return self._source

    def cache_limit(self, source: GraphSource) -> int:
        """The usual limit: graphs are small."""
        return DEFAULT_MAX_BYTES

    def base_choice(self) -> dict[str, Scalar]:
        """The graph of :func:`base_choice`."""
        return base_choice(self.config)

    def float_recipe(self, recipe: Recipe) -> Recipe:
        """The base, whose inputs the samples fit; a sample checks every export."""
        return GRAPH.compose(self.base_choice())

    def request(self, source: GraphSource, recipe: Recipe, learned: str | None) -> dict[str, Any]:
        """Model, sizes for the check of new graphs, and the file of the calibration samples."""
        about = {"model": source.model, "architecture": source.architecture, "sizes": self.config.sizes()}
        return {"graph": about, "samples": learned}

    def learn_from(self, base: ModelArtifact, cache: Cache) -> Samples:
        """The samples of the study: static ranges learn from those for calibration."""
        return self._samples_of(base)

    def _samples_of(self, artifact: ModelArtifact) -> Samples:
        if artifact.key not in self._samples:
            inputs, model = graph_inputs(artifact.path / GRAPH_FILE), self._source.folder
            self._samples[artifact.key] = make_samples(self.config, model, inputs, self._folder.root / "inputs")
        return self._samples[artifact.key]

    def stages(self, base: ModelArtifact, metrics: Metrics, split: Split) -> tuple[Stage, ...]:
        """Memory, outputs beside the base's, rows of a task, then latency on each named shape."""
        samples, store = self._samples_of(base), self._folder.root / "reference"
        evaluation, confirm = self.config.evaluation, self.config.confirm
        confirming = split == "confirm"
        fidelity = Fidelity(
            samples.path(split),
            samples.counts[split],
            store,
            base.key,
            evaluation.output,
            evaluation.logits,
            split,
            samples.origin,
            evaluation.multi_label,
        )
        latency = PairedGraphLatency(
            samples.timed,
            samples.shapes,
            evaluation.latency.half_width,
            (confirm.max_seconds if confirming else None) or evaluation.latency.max_seconds,
            self.config.seed + confirming,
            self.reading(metrics).get("latency_ms"),
        )
        return (
            Stage("load", "latency", GraphMemory(samples.timed, len(samples.shapes))),
            Stage("fidelity", "quality", fidelity, rung="memory and outputs"),
            *self._task_stages(base, split),
            Stage(
                "latency",
                "latency",
                latency,
                timed=True,
                again=lambda n: replace(latency, seed=latency.seed + 1000 * n),
            ),
        )

    def _task_stages(self, base: ModelArtifact, split: Split) -> tuple[Stage, ...]:
        if (task := self._task) is None:
            return ()
        inputs = graph_inputs(base.path / GRAPH_FILE)
        feeds = task.write(split, self._folder.root / "inputs", inputs)
        store, output = self._folder.root / "reference", self.config.evaluation.output
        return (Stage("task", "quality", task.evaluator(split, feeds, store, base.key, output), rung="task"),)

    def reading(self, metrics: Metrics) -> dict[str, float]:
        """The base's latency, which all workers go by; empty while the base itself is measured."""
        if self._reading or "latency_ms" not in metrics:
            return self._reading
        return {"latency_ms": metrics["latency_ms"].value}

    def model_bytes(self, artifact: ModelArtifact) -> int:
        """Bytes of the graph and its external weights."""
        return graph_bytes(artifact.path)

    def sampler(self, masks: Masks) -> str:
        """The sampler of the config; see :func:`sampler_name`."""
        return sampler_name(self.config, masks, {GRAPH.compose(self.base_choice()).key})

    def kernel_probe(self, base: ModelArtifact, cache: Path) -> None:
        """The kernels of a plain graph are not probed."""

    def memory_mask(self, base: ModelArtifact, record: TrialRecord) -> None:
        """No plain graph runs in a scenario."""

    def cost_model(
        self, base: TrialRecord, losses: Callable[[Recipe], Mapping[str, LayerLoss]], masks: Masks
    ) -> CostModel:
        """Refuse: sensitivity needs the checkpoint of a language model."""
        raise PassRefused("cost models are made of language models alone")

    def export(self, candidate: Candidate, to: Path, manifest: Mapping[str, Any], picture: str = "") -> Path:
        """A folder with model.onnx and its session options; it is checked by the output for one input."""
        options = process_options(candidate.recipe.provider, self.config.pythons()) | {"loop": self.loop}
        samples = candidate.learned if isinstance(candidate.learned, Samples) else self._samples_of(candidate.artifact)
        return export_graph(candidate.artifact.path, to, manifest, samples.timed, options)

    def rebuild(self, commit: str | None, choice: Mapping[str, Scalar], learned: LearnedFrom | None) -> str:
        """``olivine build`` with the inputs of the study, from which the same samples are made."""
        config = self.config
        flags = [f"--architecture {shlex.quote(config.architecture)}"] if config.architecture else []
        inputs = json.dumps(config.inputs.model_dump(mode="json", exclude_defaults=True))
        learning = [f"--inputs {shlex.quote(inputs)}", f"--calibrate-seed {config.seed}"]
        return build_command(GRAPH, config.model, flags, choice, learning)


def base_choice(config: GraphStudyConfig) -> dict[str, Scalar]:
    """The graph as it came, with the threads that candidates get."""
    fixed = {d.axis.name: d.values[0] for d in config.search_space().domains if len(d.values) == 1}
    inherited = [name for name, axis in GRAPH.axes.items() if axis.base_inherits]
    return GRAPH.canonical({name: fixed[name] for name in inherited if name in fixed})
