"""Calibrated: results of calibration text on a model, for the passes that learn from it.

Each result is computed when a pass first asks for it, and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused
from olivine.passes.graph import Linear, linears, load_graph
from olivine.passes.learn.cache_scales import CacheScales, capture_cache_scales
from olivine.passes.learn.calibration import Hessians, capture_hessians, hessians_key
from olivine.passes.learn.gradients import OutputGradients, capture_gradients
from olivine.passes.store.cache import Cache


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face checkpoint that is made when it is needed.

    Attributes:
        key: of its artifact.
        open: gives it.
    """

    key: str
    open: Callable[[], ModelArtifact]


@dataclass(frozen=True)
class Calibrated:
    """A float graph and the text that a pass may learn from.

    Attributes:
        graph: the float graph that is rewritten.
        measure: gives the float graph that activations are measured in: the same model at the usual fusion level,
            so that all fusion levels learn the same.
        measured_key: key of that graph.
        checkpoint: the checkpoint that both were exported from; None where the source is a graph.
        text: key of the windows, as :func:`olivine.passes.learn.calibration.store_tokens` gives it.
        cache: keeps the results.
    """

    graph: ModelArtifact
    measure: Callable[[], ModelArtifact]
    measured_key: str
    checkpoint: Checkpoint | None
    text: str
    cache: Cache

    @property
    def key(self) -> str:
        """Hash of everything that can be learned here."""
        return hessians_key(self.measured_key, self.text)

    @cached_property
    def measured(self) -> ModelArtifact:
        """The float graph that activations are measured in."""
        return self.measure()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Path of each linear layer of the float graph -> its output features."""
        return output_features(self.graph)

    @cached_property
    def measured_sizes(self) -> dict[str, int]:
        """The same of the graph that is measured."""
        return self.sizes if self.graph.key == self.measured_key else output_features(self.measured)

    @cached_property
    def hessians(self) -> Hessians:
        """Second moments of what linear layers read."""
        return capture_hessians(self.measured, self.text, self.cache)

    @cached_property
    def cache_scales(self) -> CacheScales:
        """Steps of a key-value cache in integers.

        Raises:
            PassRefused: when the graph's attention keeps no cache.
        """
        return capture_cache_scales(self.measured, self.text, self.cache)

    @cached_property
    def gradients(self) -> OutputGradients:
        """Squared gradients of the log-likelihood by the outputs of linear layers.

        Raises:
            PassRefused: when the source is a graph: there is nothing to differentiate.
        """
        if self.checkpoint is None:
            raise PassRefused(
                "sensitivity: gradients need the Hugging Face checkpoint, and this model is an ONNX folder. "
                "Name the checkpoint as the model, or search precision int4 and int8 without mixed"
            )
        return capture_gradients(self.checkpoint.key, self.checkpoint.open, self.text, self.cache)

    def hessian(self, layer: Linear) -> np.ndarray:
        """``X^T X / n`` of what a layer reads, float32 [K, K]; the same array for layers that read the same.

        Raises:
            PassRefused: when it was not measured.
        """
        hessian = self.hessians.of(layer.reads)
        if hessian is None:
            raise PassRefused(f"calibration captured nothing of what {layer.path} reads")
        return hessian

    def ranges(self, layer: Linear) -> np.ndarray:
        """Lowest and highest value of each channel that a layer reads in each window, float32 [2, windows, K].

        Raises:
            PassRefused: when it was not measured.
        """
        ranges = self.hessians.ranges(layer.reads)
        if ranges is None:
            raise PassRefused(f"calibration captured nothing of what {layer.path} reads")
        return ranges

    def tokens(self, layer: Linear) -> np.ndarray:
        """Largest magnitude and mean square of each token's values that a layer reads, float32 [2, tokens].

        Raises:
            PassRefused: when it was not measured.
        """
        tokens = self.hessians.tokens(layer.reads)
        if tokens is None:
            raise PassRefused(f"calibration captured nothing of what {layer.path} reads")
        return tokens


def output_features(graph: ModelArtifact) -> dict[str, int]:
    """Path of each linear layer of a graph -> its output features."""
    return {layer.path: layer.shape[1] for layer in linears(load_graph(graph.onnx_path()))}
