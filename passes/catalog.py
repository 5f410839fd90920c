"""Every pass there is, in pipeline order. Adding a pass is one file and one line here."""

from __future__ import annotations

from olivine.passes.base import Axis, Pass
from olivine.passes.export.export import Export
from olivine.passes.quantize.dynamic import DynamicQuantize
from olivine.passes.quantize.embedding import QuantizeEmbedding
from olivine.passes.quantize.mixed import MixedQuantize
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.transforms.cuda_options import CudaOptions
from olivine.passes.transforms.prune_head import PruneHead
from olivine.passes.transforms.rotate import Rotate
from olivine.passes.transforms.session_options import SessionOptions

PASSES: dict[str, type[Pass]] = {
    cls.name: cls
    for cls in (
        Rotate,
        Export,
        DynamicQuantize,
        WeightOnlyQuantize,
        MixedQuantize,
        QuantizeEmbedding,
        SessionOptions,
        CudaOptions,
        PruneHead,
    )
}

#: Every axis that a pass declares, in the order in which they are chosen.
AXES: dict[str, Axis] = {axis.name: axis for cls in PASSES.values() for axis in cls.axes}
