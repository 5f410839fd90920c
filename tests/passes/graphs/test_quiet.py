"""Silence for a library is silence for it alone, and ends with it."""

import logging

import pytest

from olivine.passes.graphs.quiet import errors_only


def test_levels_are_what_they_were_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    root, other = logging.getLogger(), logging.getLogger("olivine.tests.quiet")
    before = root.level, other.level
    with pytest.raises(RuntimeError), errors_only("", other.name):
        other.warning("unheard")
        raise RuntimeError
    assert (root.level, other.level) == before
    other.warning("heard")
    assert caplog.messages == ["heard"]
