"""The float base of a study: trial 0, which every candidate is compared with."""

from __future__ import annotations

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.export.export import float_type
from olivine.search.config.language import LanguageStudyConfig


def base_choice(config: LanguageStudyConfig) -> dict[str, Scalar]:
    """The float base: the provider's float type and the builder's own fusions, with the threads candidates get.

    Its head is pruned where theirs is: speedups compare like with like.
    """
    fixed = {d.axis.name: d.values[0] for d in config.search_space().domains if len(d.values) == 1}
    provider = str(fixed.get("provider", "cpu"))
    taken = ["threads", "spinning", "rotate", *(axis.name for axis in LANGUAGE.axes.values() if axis.base_inherits)]
    shared: dict[str, Scalar] = {name: fixed[name] for name in taken if name in fixed}
    return LANGUAGE.canonical({"provider": provider, "precision": float_type(provider, "int4"), **shared})
