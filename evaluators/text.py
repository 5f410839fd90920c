"""Deprecated, until 0.3: texts are :mod:`olivine.evaluators.data.text_source`."""

import warnings

from olivine.evaluators.data.text_source import TextSource

__all__ = ["TextSource"]

warnings.warn(f"{__name__} is now olivine.evaluators.data.text_source", DeprecationWarning, stacklevel=2)
