"""The table of faults names tests that exist, and the page shows it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from reliability.faults import FAULTS
from reliability.page import fault_table

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "results" / "reliability.md"


@pytest.mark.parametrize("test", sorted({test for fault in FAULTS for test in fault.tests}))
def test_every_test_that_the_table_names_exists(test: str) -> None:
    file, _, name = test.partition("::")
    functions = {node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in functions


def test_the_page_has_the_table_as_it_is_here() -> None:
    assert "\n".join(fault_table()) in PAGE.read_text(), "run tests/reliability/page.py"
