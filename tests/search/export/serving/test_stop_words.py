"""Stop words: found across pieces, and no text lost or held back for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.search.export.serving.stop_words import StopWords

TEXTS = st.text("ab<>", max_size=12)


def passed(words: tuple[str, ...], pieces: list[str]) -> tuple[list[str], bool]:
    """What comes out for each piece, and at the end; whether a stop word was found."""
    stop = StopWords(words)
    return [*map(stop.feed, pieces), stop.rest()], stop.found


@given(st.lists(TEXTS), st.text("ab<>", min_size=1, max_size=4))
def test_the_text_before_the_first_stop_word_is_passed_however_it_is_cut(pieces: list[str], word: str) -> None:
    text = "".join(pieces)
    out, found = passed((word,), pieces)
    assert "".join(out) == text.partition(word)[0]
    assert found == (word in text)


@given(st.lists(TEXTS), st.lists(st.text("ab<>", min_size=1, max_size=4), max_size=3))
def test_no_stop_word_is_passed_and_without_one_all_text_is(pieces: list[str], words: list[str]) -> None:
    text = "".join(pieces)
    out, found = passed(tuple(words), pieces)
    assert text.startswith("".join(out))
    assert found == any(word in text for word in words)
    assert found or "".join(out) == text
    assert not any(word in "".join(out) for word in words)


@pytest.mark.parametrize(
    ("words", "pieces", "out"),
    [
        ((), ["a", "b"], ["a", "b", ""]),
        (("STOP",), ["a ST", "O", "P b", "c"], ["a ", "", "", "", ""]),
        (("STOP",), ["a ST", "OLE"], ["a ", "STOLE", ""]),
        (("STOP",), ["a ST"], ["a ", "ST"]),
        (("\n\n", "b"), ["a\nb"], ["a\n", ""]),
    ],
)
def test_only_what_may_begin_a_stop_word_is_held_back(
    words: tuple[str, ...], pieces: list[str], out: list[str]
) -> None:
    assert passed(words, pieces)[0] == out
