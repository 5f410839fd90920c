"""Deprecated, until 0.3: rows of files are read by :mod:`olivine.evaluators.data.rows`."""

import warnings

from olivine.evaluators.data.rows import file_rows

__all__ = ["file_rows"]

warnings.warn(f"{__name__} is now olivine.evaluators.data.rows", DeprecationWarning, stacklevel=2)
