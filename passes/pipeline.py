"""Pipeline: a recipe and a source in, a cached artifact out.

Built in stages, each cached under a hash of its inputs, parameters, pass versions and library versions. Of a language
model:

1. the source as a checkpoint folder, once per model;
2. each checkpoint pass;
3. the export: the float graph, once per model, precision and fusion level;
4. all graph passes together: the graph is read once, rewritten in memory and written once; passes that learn from
   text get the Hessians of the float graph;
5. all config passes together: weights are hard links to stage 4;
6. all wiring passes together: likewise. Quality is scored on the model that this stage starts from.

Of any other graph: the source as a folder, then each pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, TypeGuard

from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import CheckpointPass, ExportPass, GraphFacts, GraphFilePass, GraphPass, Pass, PassResult
from olivine.passes.errors import PassRefused
from olivine.passes.graphs.encoder_proof import prove_encoder
from olivine.passes.graphs.source import GRAPH_FILE, GraphSource
from olivine.passes.learn.calibrated import Calibrated, Checkpoint
from olivine.passes.learn.calibration import hessians_key
from olivine.passes.parity.proof import keep, keep_proof, known_proof
from olivine.passes.quantize.coded.as_it_came import AsItCame
from olivine.passes.quantize.expected_loss import expected_losses
from olivine.passes.quantize.experts import experts_note
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.sources.onnx_source_rules import refuse_other_graph
from olivine.passes.sources.source import Source
from olivine.passes.stages import TOGETHER, apply_stage, form
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class BuildResult:
    """Result of a build: the artifact, and a record of each pass."""

    artifact: ModelArtifact
    passes: tuple[PassResult, ...]


def stage_key(inputs: str, passes: Sequence[Pass], learned: str | None = None) -> str:
    """Hash of everything that the output of ``passes`` on ``inputs`` depends on.

    Args:
        inputs: key of what they are applied to.
        passes: of one stage.
        learned: key of what they may learn; it counts where a pass learns, and only there.
    """
    parts: list[Any] = [
        inputs,
        [
            [
                p.name,
                p.version,
                p.params(),
                {library: version(library) for library in sorted(p.libraries)},
            ]
            for p in passes
        ],
    ]
    if learned is not None and _learns(passes):
        parts.append(learned)
    return digest(parts)


def graph_stage_key(inputs: str, p: GraphFilePass, facts: GraphFacts) -> str:
    """Hash of everything that the output of ``p`` on ``inputs`` depends on; library versions are in the source's key.

    Raises:
        PassRefused: when the pass needs a fact that is not known.
    """
    return digest([inputs, p.name, p.params(), *p.key_parts(facts), *([p.version] if p.version > 1 else [])])


def build(
    source: Source | GraphSource,
    recipe: Recipe,
    cache: Cache,
    calibration: str | None = None,
    *,
    samples: Path | None = None,
    sizes: Mapping[str, int] | None = None,
) -> BuildResult:
    """Build the candidate that ``recipe`` makes of ``source``, or take it from the cache.

    Every new graph is checked to load and to give finite outputs before it is kept; a failure is never kept.

    Args:
        source: the model.
        recipe: passes of its kind of model.
        cache: keeps every stage.
        calibration: key of the text that passes of a language model learn from, as
            :func:`olivine.passes.learn.calibration.store_tokens` gives it; recipes without such a pass ignore it.
        samples: file with the samples that passes of a graph learn from; likewise.
        sizes: of a graph's open axes, for its check.

    Raises:
        PassRefused: when a pass does not apply to this model, or needs calibration that was not given.
        BuildFailed: when the result does not load or gives outputs that are not finite.
        SourceError: when the source can't be read or exported.
    """
    if isinstance(source, GraphSource):
        facts = GraphFacts(source.architecture, source.heads, source.hidden, samples, sizes)
    else:
        facts = GraphFacts()
    try:
        return _build(source, recipe, cache, calibration, facts)
    except FileNotFoundError as error:
        if cache.root not in Path(str(error.filename)).parents:
            raise
        # An entry was deleted under way. Those that are left are found again, the others are built again.
        return _build(source, recipe, cache, calibration, facts)


def _build(
    source: Source | GraphSource, recipe: Recipe, cache: Cache, calibration: str | None, facts: GraphFacts
) -> BuildResult:
    passes = recipe.passes()
    if isinstance(source, Source) and source.kind == "onnx":
        refuse_other_graph(source, passes, lambda: source_artifact(source, cache).genai_config())
        passes = [p for p in passes if not isinstance(p, CheckpointPass | ExportPass)]
    if calibration is None and (learning := _learns(passes)):
        raise PassRefused(f"pass '{learning[0].name}' learns from calibration text, and none was given")
    build = _StagedBuild(source, passes, cache, calibration, facts)
    artifact = build.artifact()
    return BuildResult(artifact, tuple(build.noted(artifact)))


def layer_losses(source: Source, recipe: Recipe, cache: Cache, calibration: str) -> dict[str, LayerLoss]:
    """Expected losses of each linear layer of a model in every format, by its path.

    Args:
        source: the model.
        recipe: of a candidate; its float graph is the one whose layers are looked at.
        cache: keeps every stage, and the result.
        calibration: key of the text that is learned from.

    Raises:
        PassRefused: when the source is a graph: sensitivity needs a backward pass of its checkpoint.
        BuildFailed: when the float graph does not run.
        SourceError: when the source can't be read.
    """
    return expected_losses(calibrated(source, recipe, cache, calibration))


def calibrated(source: Source, recipe: Recipe, cache: Cache, calibration: str) -> Calibrated:
    """Calibration results for passes of ``recipe``, about its float graph; arguments and errors as above."""
    passes = recipe.float_part().passes() if source.kind != "onnx" else ()
    build = _StagedBuild(source, passes, cache, calibration, GraphFacts())
    return build.calibrated(build.artifact())


def source_artifact(source: Source | GraphSource, cache: Cache) -> ModelArtifact:
    """The source as a folder in the cache, made where it is not there; an exported encoder is proven."""
    artifact = cache.get(source.folder_key) or cache.put(source.folder_key, source.materialize)
    if _is_encoder(source) and known_proof(artifact.key, cache) is None:
        keep(artifact.key, lambda: prove_encoder(source.path, artifact.path / GRAPH_FILE), cache)
    return artifact


def _is_encoder(source: Source | GraphSource) -> TypeGuard[GraphSource]:
    """True for a graph that was exported from a checkpoint."""
    return isinstance(source, GraphSource) and source.kind == "encoder"


class _StagedBuild:
    """The stages of a recipe on a source. Inputs of a stage are built, or touched, only where its result is missing.

    So entries of the cache that no stage needs any more grow old: the checkpoint that all graphs of a study were
    exported from is evicted first.

    Attributes:
        keys: of the source, and of the result of each stage.
        results: of each stage, a record of each pass.
    """

    def __init__(
        self,
        source: Source | GraphSource,
        passes: Sequence[Pass],
        cache: Cache,
        text: str | None,
        facts: GraphFacts,
    ) -> None:
        self._source, self._cache, self._text, self._facts = source, cache, text, facts
        self._stages: list[list[Pass]] = []
        for kind, group in groupby(passes, key=form):
            together = list(group)
            self._stages += [together] if kind in TOGETHER else [[p] for p in together]
        self.keys = [source.folder_key]
        self._export: int | None = None
        for index, stage in enumerate(self._stages):
            first = stage[0]
            if isinstance(first, GraphFilePass):
                self.keys.append(graph_stage_key(self.keys[-1], first, facts))
                continue
            if isinstance(first, ExportPass):
                self._export = index
            self.keys.append(stage_key(self.keys[-1], stage, self._learned_key() if _learns(stage) else None))
        self.results = [[PassResult(p.name, p.params(), 0.0, True) for p in stage] for stage in self._stages]

    def artifact(self, stages: int | None = None) -> ModelArtifact:
        """The source after the first ``stages``, by default after all; a float export is proven before it is used."""
        count = len(self._stages) if stages is None else stages
        if count == 0:
            return source_artifact(self._source, self._cache)
        artifact = self._cache.get(self.keys[count]) or self._make(count - 1)
        if self._export == count - 1 and known_proof(artifact.key, self._cache) is None:
            keep_proof(self.artifact(self._export), artifact, self._export_pass(), self._cache)
        return artifact

    def calibrated(self, graph: ModelArtifact) -> Calibrated:
        """Calibration results for passes on a float graph of this build."""
        assert self._text is not None
        if self._export is None:
            return Calibrated(graph, lambda: graph, graph.key, None, self._text, self._cache)
        export = self._export
        checkpoint = Checkpoint(self.keys[export], lambda: self.artifact(export))
        return Calibrated(graph, self._measured, self._measured_key(), checkpoint, self._text, self._cache)

    def _make(self, index: int) -> ModelArtifact:
        stage, before = self._stages[index], self.artifact(index)
        learned = self.calibrated(before) if _learns(stage) else None
        seconds: list[float] | None = None

        def write(to: Path) -> frozenset[str]:
            nonlocal seconds
            properties, seconds = apply_stage(stage, before, to, self._facts, learned, self._coded(stage))
            return properties

        artifact = self._cache.put(self.keys[index + 1], write)
        if seconds is not None:  # another process had not built it meanwhile
            self.results[index] = [
                PassResult(p.name, p.params(), s, False) for p, s in zip(stage, seconds, strict=True)
            ]
        return artifact

    def _coded(self, stage: Sequence[Pass]) -> Path | None:
        """The checkpoint of the export, where a pass of the stage takes its codes."""
        if self._export is None or not any(isinstance(p, AsItCame) for p in stage):
            return None
        return self.artifact(self._export).path

    def _learned_key(self) -> str | None:
        return None if self._text is None else hessians_key(self._measured_key(), self._text)

    def _measured_key(self) -> str:
        """Key of the float graph that activations are measured in: a source that is a graph is its own."""
        return self.keys[0] if self._export is None else stage_key(self.keys[self._export], [self._reference_export()])

    def _measured(self) -> ModelArtifact:
        assert self._export is not None
        key, export = self._measured_key(), self._reference_export()
        if (artifact := self._cache.get(key)) is not None:
            return artifact
        checkpoint = self.artifact(self._export)
        return self._cache.put(key, lambda to: apply_stage([export], checkpoint, to, self._facts, None)[0])

    def _reference_export(self) -> ExportPass:
        return self._export_pass().reference()

    def _export_pass(self) -> ExportPass:
        assert self._export is not None
        (export,) = self._stages[self._export]
        assert isinstance(export, ExportPass)
        return export

    def noted(self, artifact: ModelArtifact) -> list[PassResult]:
        """Every pass's result: an export's with its proof, that of a quantized graph with what it left float."""
        for index, stage in enumerate(self._stages):
            first, *others = self.results[index]
            if index == 0 and _is_encoder(self._source):
                self.results[0] = [replace(first, proof=known_proof(self.keys[0], self._cache)), *others]
            elif index == self._export:
                self.results[index] = [replace(first, proof=known_proof(self.keys[index + 1], self._cache))]
            elif isinstance(stage[0], GraphPass) and "quantized" in artifact.properties:
                note = experts_note(artifact.onnx_path(), artifact.model_bytes())
                self.results[index] = [replace(first, note=note), *others]
        return [result for results in self.results for result in results]


def _learns(passes: Sequence[Pass]) -> list[GraphPass]:
    return [p for p in passes if isinstance(p, GraphPass) and p.needs_calibration]
