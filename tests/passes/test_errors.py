"""What an error quotes of a process that has died."""

from __future__ import annotations

import pytest

from olivine.passes.errors import last_words

TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in run\n    load()\n    ^^^^^^\n'


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("", ""),
        ("loading\nterminate called\n", "terminate called"),
        (f"loading\n{TRACE}ValueError: 3 of 4", "ValueError: 3 of 4"),
        (f"{TRACE}RuntimeError: wrong:\n index: 2\n Please fix it.\n", "RuntimeError: wrong: index: 2 Please fix it."),
        (f"{TRACE}KeyError: 1\n\nDuring handling:\n\n{TRACE}ValueError: 2", "ValueError: 2"),
        ('Traceback (most recent call last):\n  File "x.py", line', 'File "x.py", line'),
    ],
)
def test_the_last_words_are_the_whole_exception_or_the_last_line(tail: str, said: str) -> None:
    assert last_words(tail) == said
