"""Pipeline: a recipe and a source in, a cached artifact out.

Built in stages, each cached under a hash of its inputs, parameters, pass versions and library versions:

1. the source as a checkpoint folder, once per model;
2. each checkpoint pass;
3. the export: the float graph, once per model, precision and fusion level;
4. all graph passes together: the graph is read once, rewritten in memory and written once; passes that learn from
   text get the Hessians of the float graph;
5. all config passes together: weights are hard links to stage 4;
6. all wiring passes together: likewise. What goes into this stage is the twin that quality is scored on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import onnx_ir as ir

from olivine.passes.artifact import GENAI_CONFIG, ModelArtifact, digest, link_or_copy
from olivine.passes.base import CheckpointPass, ConfigPass, ExportPass, GraphPass, Pass, PassResult, WiringPass
from olivine.passes.errors import PassRefused
from olivine.passes.export.check import check_model
from olivine.passes.graph import load_graph, save_graph, save_wiring
from olivine.passes.learn.calibrated import Calibrated, Checkpoint
from olivine.passes.learn.calibration import hessians_key
from olivine.passes.quantize.expected_loss import LayerLoss, expected_losses
from olivine.passes.recipe import Recipe
from olivine.passes.sources.onnx_source_rules import refuse_other_graph
from olivine.passes.sources.source import Source
from olivine.passes.store.cache import Cache


@dataclass(frozen=True)
class Built:
    """What a build made: the artifact, and what each pass did for it."""

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


def build(source: Source, recipe: Recipe, cache: Cache, calibration: str | None = None) -> Built:
    """Build the candidate that ``recipe`` makes of ``source``, or take it from the cache.

    Every new graph is checked to load and to give finite logits before it is kept; a failure is never kept.

    Args:
        source: the model.
        recipe: what to make of it.
        cache: where every stage is kept.
        calibration: key of the text that passes learn from, as
            :func:`olivine.passes.learn.calibration.store_tokens` gives it; recipes without such a pass ignore it.

    Raises:
        PassRefused: when a pass does not apply to this model, or needs calibration text that was not given.
        BuildFailed: when the result does not load or gives logits that are not finite.
        SourceError: when the source can't be read.
    """
    try:
        return _build(source, recipe, cache, calibration)
    except FileNotFoundError as error:
        if cache.root not in Path(str(error.filename)).parents:
            raise
        # An entry was deleted under way. Those that are left are found again, the others are built again.
        return _build(source, recipe, cache, calibration)


def _build(source: Source, recipe: Recipe, cache: Cache, calibration: str | None) -> Built:
    passes = recipe.passes()
    if source.kind == "onnx":
        refuse_other_graph(source, passes, lambda: materialized(source, cache).genai_config())
        passes = [p for p in passes if not isinstance(p, CheckpointPass | ExportPass)]
    if calibration is None and (learning := _learns(passes)):
        raise PassRefused(f"pass '{learning[0].name}' learns from calibration text, and none was given")
    line = _StagedBuild(source, passes, cache, calibration)
    return Built(line.made(), tuple(result for results in line.results for result in results))


def forecast(source: Source, recipe: Recipe, cache: Cache, calibration: str) -> dict[str, LayerLoss]:
    """What each linear layer of a model is expected to lose in every format, by its path.

    Args:
        source: the model.
        recipe: of a candidate; its float graph is the one whose layers are looked at.
        cache: where every stage is kept, and the result.
        calibration: key of the text that is learned from.

    Raises:
        PassRefused: when the source is a graph: sensitivity needs a backward pass of its checkpoint.
        BuildFailed: when the float graph does not run.
        SourceError: when the source can't be read.
    """
    return expected_losses(calibrated(source, recipe, cache, calibration))


def calibrated(source: Source, recipe: Recipe, cache: Cache, calibration: str) -> Calibrated:
    """What passes of ``recipe`` may learn about its float graph, which is built; arguments and errors as above."""
    passes = recipe.float_part().passes() if source.kind != "onnx" else ()
    line = _StagedBuild(source, passes, cache, calibration)
    return line.calibrated(line.made())


def materialized(source: Source, cache: Cache) -> ModelArtifact:
    """The source as a folder in the cache, made where it is not there."""
    key = digest(["source", source.key])
    return cache.get(key) or cache.put(key, source.materialize)


class _StagedBuild:
    """A recipe's stages on a source. What a stage needs is made, or touched, only where its result is missing.

    So what was needed last is what was used last, which is what the cache keeps: a checkpoint that all graphs of a
    study were exported from leaves it first.

    Attributes:
        keys: of the source, and of what each stage makes.
        results: of each stage, what its passes did.
    """

    def __init__(self, source: Source, passes: Sequence[Pass], cache: Cache, text: str | None) -> None:
        self._source, self._cache, self._text = source, cache, text
        self._stages: list[list[Pass]] = []
        for kind, group in groupby(passes, key=_stage):
            together = list(group)
            self._stages += [together] if kind in (GraphPass, ConfigPass, WiringPass) else [[p] for p in together]
        self.keys = [digest(["source", source.key])]
        self._export: int | None = None
        for index, stage in enumerate(self._stages):
            if isinstance(stage[0], ExportPass):
                self._export = index
            self.keys.append(stage_key(self.keys[-1], stage, self._learned_key() if _learns(stage) else None))
        self.results = [[PassResult(p.name, p.params(), 0.0, True) for p in stage] for stage in self._stages]

    def made(self, stages: int | None = None) -> ModelArtifact:
        """What the first ``stages`` make of the source; by default all."""
        count = len(self._stages) if stages is None else stages
        if count == 0:
            return materialized(self._source, self._cache)
        return self._cache.get(self.keys[count]) or self._make(count - 1)

    def calibrated(self, graph: ModelArtifact) -> Calibrated:
        """What passes on a float graph of this line may learn."""
        assert self._text is not None
        if self._export is None:
            return Calibrated(graph, lambda: graph, graph.key, None, self._text, self._cache)
        export = self._export
        checkpoint = Checkpoint(self.keys[export], lambda: self.made(export))
        return Calibrated(graph, self._measured, self._measured_key(), checkpoint, self._text, self._cache)

    def _make(self, index: int) -> ModelArtifact:
        stage, before = self._stages[index], self.made(index)
        learned = self.calibrated(before) if _learns(stage) else None
        seconds = [0.0] * len(stage)
        ran = False

        def write(to: Path) -> frozenset[str]:
            nonlocal ran
            ran = True
            return _apply(stage, before, to, seconds, learned)

        made = self._cache.put(self.keys[index + 1], write)
        self.results[index] = [PassResult(p.name, p.params(), s, not ran) for p, s in zip(stage, seconds, strict=True)]
        return made

    def _learned_key(self) -> str | None:
        return None if self._text is None else hessians_key(self._measured_key(), self._text)

    def _measured_key(self) -> str:
        """Key of the float graph that activations are measured in: a source that is a graph is its own."""
        return self.keys[0] if self._export is None else stage_key(self.keys[self._export], [self._usual()])

    def _measured(self) -> ModelArtifact:
        assert self._export is not None
        key, usual = self._measured_key(), self._usual()
        if (found := self._cache.get(key)) is not None:
            return found
        checkpoint = self.made(self._export)
        return self._cache.put(key, lambda to: _apply([usual], checkpoint, to, [0.0], None))

    def _usual(self) -> ExportPass:
        assert self._export is not None
        (export,) = self._stages[self._export]
        assert isinstance(export, ExportPass)
        return export.usual()


def _learns(passes: Sequence[Pass]) -> list[GraphPass]:
    return [p for p in passes if isinstance(p, GraphPass) and p.needs_calibration]


def _stage(p: Pass) -> type[Pass]:
    return next(kind for kind in (CheckpointPass, ExportPass, GraphPass, ConfigPass, WiringPass) if isinstance(p, kind))


def _apply(
    stage: Sequence[Pass],
    artifact: ModelArtifact,
    to: Path,
    seconds: list[float],
    calibrated: Calibrated | None,
) -> frozenset[str]:
    holds = artifact.holds
    for p in stage:
        if reason := p.refuse(holds):
            raise PassRefused(reason)
        holds = (holds - p.breaks) | p.ensures
    first = stage[0]
    if isinstance(first, CheckpointPass | ExportPass):
        seconds[0] = _timed(lambda: first.apply(artifact.path, to))
        if isinstance(first, ExportPass):
            holds -= {"checkpoint"}
            check_model(to)
    elif isinstance(first, GraphPass):
        _rewrite(stage, artifact, to, seconds, calibrated)
        check_model(to)
    elif isinstance(first, WiringPass):
        _rewire(stage, artifact, to, seconds)
        check_model(to)
    else:
        _edit(stage, artifact, to, seconds)
    return holds


def _rewrite(
    stage: Sequence[Pass],
    artifact: ModelArtifact,
    to: Path,
    seconds: list[float],
    calibrated: Calibrated | None,
) -> None:
    graph = artifact.onnx_path()
    for file in artifact.files():
        if file.name != graph.name and not file.name.startswith(graph.name + "."):
            link_or_copy(file, to / file.relative_to(artifact.path))
    model = load_graph(graph)
    for index, p in enumerate(stage):
        assert isinstance(p, GraphPass)
        seconds[index] = _timed(partial(_rewrite_one, p, model, calibrated))
    # Weights are computed as they are written: the last pass is charged with the writing.
    seconds[-1] += _timed(lambda: save_graph(model, to / graph.name))


def _rewrite_one(p: GraphPass, model: ir.Model, calibrated: Calibrated | None) -> None:
    if p.needs_calibration and calibrated is not None:
        p.rewrite_calibrated(model, calibrated)
    else:
        p.rewrite(model)


def _edit(stage: Sequence[Pass], artifact: ModelArtifact, to: Path, seconds: list[float]) -> None:
    config = artifact.genai_config()
    for index, p in enumerate(stage):
        assert isinstance(p, ConfigPass)
        seconds[index] = _timed(partial(p.edit, config))
    for file in artifact.files():
        if file.name != GENAI_CONFIG:
            link_or_copy(file, to / file.relative_to(artifact.path))
    (to / GENAI_CONFIG).write_text(json.dumps(config, indent=4))


def _rewire(stage: Sequence[Pass], artifact: ModelArtifact, to: Path, seconds: list[float]) -> None:
    graph = artifact.onnx_path()
    model = ir.load(graph)
    for index, p in enumerate(stage):
        assert isinstance(p, WiringPass)
        seconds[index] = _timed(partial(p.rewire, model))
    save_wiring(model, artifact.path, graph.name, to)


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
