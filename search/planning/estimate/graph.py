"""GraphEstimator: needs of a study of a plain ONNX graph or an encoder, from the headers of its files.

What is counted per byte and per weight below was read off the two demo models on two cores, and is a guess elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from olivine.evaluators.latency.graph import WARM_RUNS
from olivine.evaluators.latency.rounds import MIN_ROUNDS
from olivine.passes.base import Scalar
from olivine.passes.graphs.graph_size import GraphSize, graph_size
from olivine.passes.graphs.quantize import BITS
from olivine.passes.graphs.source import GraphSource
from olivine.passes.store.cache import DEFAULT_MAX_BYTES
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.planning.estimate.estimator import BASE, BESIDE, BUILDING, OTHER, Durations
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.report.formatting import duration_text, value_text

#: Share of the rate of one large product that a whole graph reaches.
RUN_SHARE = 0.4
#: Memory without any model: the study, a build, PyTorch where a build exports or fuses, a process that runs a graph.
STUDY_BYTES, BUILD_BYTES, TORCH_BYTES, PROCESS_BYTES = 250e6, 250e6, 450e6, 70e6
#: Copies of the float graph that a build holds, and copies of its graph that a session holds.
COPIES, SESSION_COPIES = 5, 2
FLOAT_BYTES = 4
#: Seconds of exporting a checkpoint, of starting a build, of fusing, and of starting a process and telling a trial.
EXPORT_S, BUILD_START_S, FUSE_S, START_S = 15.0, 1.5, 4.0, 1.0
#: Seconds a weight of a product: of choosing codes in blocks, and of rounding.
BLOCK_S, ROUND_S = 40e-9, 20e-9
#: Ways to choose static ranges that hold the activations of all samples.
HISTOGRAMS = ("entropy", "percentile")
#: Runs that a sample for calibration takes; histograms read every activation again.
CALIBRATION_RUNS = {"minmax": 2, "entropy": 8, "percentile": 8}


@dataclass(frozen=True)
class GraphEstimator:
    """Needs of a study of a graph.

    Attributes:
        config: the study.
        source: its model.
        choices: typical candidates.
    """

    config: GraphStudyConfig
    source: GraphSource
    choices: Sequence[Mapping[str, Scalar]]

    @cached_property
    def size(self) -> GraphSize:
        """Weights of the model and positions of its shapes."""
        return graph_size(self.source, self.config.inputs.shapes)

    @property
    def float_bytes(self) -> float:
        """Size of the base."""
        return FLOAT_BYTES * self.size.total

    @cached_property
    def candidate_bytes(self) -> Sequence[float]:
        """Sizes of the typical candidates."""
        return [candidate_size(self.size, choice) for choice in self.choices]

    def memory_parts(self) -> dict[str, float]:
        """The base, a candidate and a build beside them; histograms hold the activations of all samples."""
        largest = max(self.float_bytes, *self.candidate_bytes)
        fusing = TORCH_BYTES + COPIES * self.float_bytes
        learning = 0.0
        if any(choice.get("calibration") in HISTOGRAMS for choice in self.choices):
            positions = self.config.inputs.calibrate * self._sample_positions
            learning = COPIES * self.float_bytes + FLOAT_BYTES * self.size.activations_a_position * positions
        base, beside = (PROCESS_BYTES + SESSION_COPIES * size for size in (self.float_bytes, largest))
        return {BASE: base, BESIDE: beside, BUILDING: BUILD_BYTES + max(fusing, learning), OTHER: STUDY_BYTES}

    @property
    def _sample_positions(self) -> float:
        """Positions of one sample of text, pictures or arrays."""
        inputs = self.config.inputs
        if inputs.text is not None:
            return float(inputs.tokens)
        return min(self.size.positions[name] / sizes.get("batch", 1) for name, sizes in inputs.shapes.items())

    def disk_bytes(self, trials: int) -> float:
        """The base, each kind of fused graph and every candidate in the cache; the export on top."""
        sizes = self.candidate_bytes
        needed = self._float_graphs * self.float_bytes
        cached = needed + trials * sum(sizes) / len(sizes)
        limit = self.config.cache.max_bytes or DEFAULT_MAX_BYTES
        return min(cached, max(limit, needed)) + max(sizes)

    @property
    def _float_graphs(self) -> int:
        return len({"none", *(choice["fusion_level"] for choice in self.choices)})

    def durations(self, trials: int, rates: MachineRates) -> Durations:
        """Seconds of the parts; every fused graph is made once."""
        config = self.config
        sample_s = 2 * self.size.products * self._sample_positions / (RUN_SHARE * rates.flops)
        shapes_s = sum(self.size.operations(name) for name in config.inputs.shapes) / (RUN_SHARE * rates.flops)
        least = 2 * (MIN_ROUNDS + WARM_RUNS) * shapes_s
        seconds = config.evaluation.latency.max_seconds
        scored = START_S + (config.inputs.samples + self._task_rows) * sample_s
        measured = scored + max(seconds, least)
        builds = [self._build_s(choice, sample_s) for choice in self.choices]
        writing = sum(self.candidate_bytes) / len(self.candidate_bytes) / rates.written_bytes_per_s
        export = EXPORT_S if self.source.kind == "encoder" else 2 * self.float_bytes / rates.written_bytes_per_s
        return Durations(
            base=BUILD_START_S + export + (self._float_graphs - 1) * FUSE_S + measured,
            learning=0.0,
            trial=sum(builds) / len(builds) + writing + measured,
            member=scored + max(config.confirm.max_seconds or seconds, least),
        )

    @property
    def _task_rows(self) -> int:
        task = self.config.evaluation.task
        return 0 if task is None else task.limit

    def _build_s(self, choice: Mapping[str, Scalar], sample_s: float) -> float:
        if choice["precision"] == "fp32":
            return BUILD_START_S
        if choice.get("activations") == "static":
            runs = CALIBRATION_RUNS[str(choice["calibration"])]
            return BUILD_START_S + ROUND_S * self.size.products + runs * self.config.inputs.calibrate * sample_s
        rate = BLOCK_S if choice.get("algorithm") == "k_quant" else ROUND_S
        return BUILD_START_S + rate * self.size.products

    def assumptions(self, rates: MachineRates) -> tuple[str, ...]:
        """Sentences on what the estimates rest on."""
        limit = value_text("model_bytes", self.config.cache.max_bytes or DEFAULT_MAX_BYTES)
        return (
            "sizes: weights of the files' headers; those of matrix products at the width of each precision",
            "memory: the base and one candidate loaded, and a build beside them; where ranges come from "
            "histograms, the activations of all calibration samples",
            f"disk: the base, fused graphs and every candidate in the cache, of at most {limit}, nothing of it built "
            "yet; the export on top",
            f"time: {rates.text()}, as measured just now; two operations a weight and position, convolutions and "
            f"attention left out; at least {MIN_ROUNDS} rounds or "
            f"{duration_text(self.config.evaluation.latency.max_seconds)} of timing each; downloads not counted",
        )


def candidate_size(size: GraphSize, choice: Mapping[str, Scalar]) -> float:
    """Size of the candidate that a canonical choice builds.

    Args:
        size: of the float graph.
        choice: canonical axis values.
    """
    if choice["precision"] == "fp32":
        return FLOAT_BYTES * size.total
    integer, embedding = size.products, 0.0
    if choice.get("activations") in ("dynamic", "static"):
        integer -= size.narrowing if choice.get("float_down") else 0.0
        embedding = size.embedding if choice.get("embedding") == "int8" else 0.0
        stored = integer + embedding
    else:
        bits = BITS[str(choice["precision"])]
        stored = integer * (bits + (8 * FLOAT_BYTES + bits) / float(choice["block_size"])) / 8
    return stored + FLOAT_BYTES * (size.total - integer - embedding)
