"""Graph passes that may learn from calibration text, and those of them that store linear layers as integers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import onnx_ir as ir

from olivine.passes.base import GraphPass
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.quantize.layer_format import Format
from olivine.passes.quantize.layer_loss import LayerLoss


class CalibratedPass(GraphPass):
    """Learns from calibration text where ``needs_calibration``."""

    @abstractmethod
    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """Change ``model`` as :meth:`rewrite` does, with calibration results; called where ``needs_calibration``.

        Args:
            model: changed in place.
            calibrated: of the float graph that the stage started from; activations keep their names.

        Raises:
            PassRefused: when no node fits, or an activation was not captured.
        """


class QuantizePass(CalibratedPass):
    """Stores linear layers as integers."""

    @abstractmethod
    def formats(self, losses: Mapping[str, LayerLoss]) -> Mapping[str, Format]:
        """Formats of the linear layers that this pass would store.

        Args:
            losses: path of every linear layer that no earlier pass has stored -> its expected losses.

        Returns:
            Path -> format, None for a layer that stays float.
        """
