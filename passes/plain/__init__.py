"""Deprecated, until 0.3: graphs are :mod:`olivine.passes.graphs`."""
