"""Deprecated, until 0.3: encoders are exported by :mod:`olivine.passes.graphs.encoder`."""

import warnings

from olivine.passes.graphs.encoder import export_encoder

__all__ = ["export_encoder"]

warnings.warn(f"{__name__} is now olivine.passes.graphs.encoder", DeprecationWarning, stacklevel=2)
