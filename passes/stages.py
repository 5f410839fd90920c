"""One stage of a build: its passes, applied to a folder, write a new one; every new graph is checked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import onnx_ir as ir

from olivine.passes.artifact import GENAI_CONFIG, ModelArtifact, link_or_copy
from olivine.passes.base import (
    CheckpointPass,
    ConfigPass,
    ExportPass,
    GraphFacts,
    GraphFilePass,
    GraphPass,
    Pass,
    WiringPass,
)
from olivine.passes.errors import PassRefused
from olivine.passes.export.check import check_model
from olivine.passes.graph import load_graph, save_graph, save_wiring
from olivine.passes.graphs.check import check_graph
from olivine.passes.graphs.source import GRAPH_FILE
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.quantize.coded.as_it_came import AsItCame
from olivine.passes.quantize.quantize_pass import CalibratedPass

#: Forms whose neighbouring passes share a stage; a pass of any other form is a stage of its own.
TOGETHER = (GraphPass, ConfigPass, WiringPass)


def form(p: Pass) -> type[Pass]:
    """The form of a pass (``base.py``)."""
    forms = (CheckpointPass, ExportPass, GraphPass, ConfigPass, WiringPass, GraphFilePass)
    return next(kind for kind in forms if isinstance(p, kind))


def apply_stage(
    stage: Sequence[Pass],
    artifact: ModelArtifact,
    to: Path,
    facts: GraphFacts,
    calibrated: Calibrated | None,
    checkpoint: Path | None = None,
) -> tuple[frozenset[str], list[float]]:
    """Write what the passes of a stage make of a model to the empty folder ``to``.

    Args:
        stage: passes of one form.
        artifact: the model.
        to: the folder.
        facts: of a graph.
        calibrated: calibration results about the float graph, for passes that learn from text.
        checkpoint: that a graph was exported from, for passes that take its codes.

    Returns:
        Properties of the new model, and seconds that each pass took.

    Raises:
        PassRefused: when a pass does not apply.
        BuildFailed: when the new graph does not run, or gives outputs that are not finite.
    """
    properties = artifact.properties
    for p in stage:
        if reason := p.refuse(properties):
            raise PassRefused(reason)
        properties = (properties - p.removes) | p.adds
    first = stage[0]
    if isinstance(first, CheckpointPass | ExportPass):
        seconds = [_timed(partial(first.apply, artifact.path, to))]
        if isinstance(first, ExportPass):
            check_model(to)
    elif isinstance(first, GraphPass):
        seconds = _rewrite(stage, artifact, to, calibrated, checkpoint)
        check_model(to)
    elif isinstance(first, WiringPass):
        seconds = _rewire(stage, artifact, to)
        check_model(to)
    elif isinstance(first, GraphFilePass):
        seconds = [_write_file(first, artifact, to, facts)]
    else:
        seconds = _edit(stage, artifact, to)
    return properties, seconds


def _rewrite(
    stage: Sequence[Pass], artifact: ModelArtifact, to: Path, calibrated: Calibrated | None, checkpoint: Path | None
) -> list[float]:
    graph = artifact.onnx_path()
    _link(artifact, to, lambda file: file.name != graph.name and not file.name.startswith(graph.name + "."))
    model = load_graph(graph)
    seconds = []
    for p in stage:
        assert isinstance(p, GraphPass)
        if isinstance(p, CalibratedPass) and p.needs_calibration and calibrated is not None:
            seconds.append(_timed(partial(p.rewrite_calibrated, model, calibrated)))
        elif isinstance(p, AsItCame) and checkpoint is not None:
            seconds.append(_timed(partial(p.rewrite_coded, model, checkpoint)))
        else:
            seconds.append(_timed(partial(p.rewrite, model)))
    # Weights are computed as they are written: the last pass is charged with the writing.
    seconds[-1] += _timed(lambda: save_graph(model, to / graph.name))
    return seconds


def _edit(stage: Sequence[Pass], artifact: ModelArtifact, to: Path) -> list[float]:
    config, seconds = artifact.genai_config(), []
    for p in stage:
        assert isinstance(p, ConfigPass)
        start = time.perf_counter()
        config = p.edited(config)
        seconds.append(time.perf_counter() - start)
    _link(artifact, to, lambda file: file.name != GENAI_CONFIG)
    (to / GENAI_CONFIG).write_text(json.dumps(config, indent=4))
    return seconds


def _rewire(stage: Sequence[Pass], artifact: ModelArtifact, to: Path) -> list[float]:
    graph = artifact.onnx_path()
    model = ir.load(graph)
    seconds = [_timed(partial(p.rewire, model)) for p in stage if isinstance(p, WiringPass)]
    save_wiring(model, artifact.path, graph.name, to)
    return seconds


def _write_file(p: GraphFilePass, artifact: ModelArtifact, to: Path, facts: GraphFacts) -> float:
    _link(artifact, to, lambda file: not file.name.startswith(GRAPH_FILE))
    seconds = _timed(lambda: p.apply(artifact.path / GRAPH_FILE, to / GRAPH_FILE, facts))
    if p.changes_graph:
        check_graph(to / GRAPH_FILE, facts.sizes)
    return seconds


def _link(artifact: ModelArtifact, to: Path, wanted: Callable[[Path], bool]) -> None:
    for file in artifact.files():
        if wanted(file):
            link_or_copy(file, to / file.relative_to(artifact.path))


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
