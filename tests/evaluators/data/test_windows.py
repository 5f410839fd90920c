from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.evaluators.data.windows import PROTOCOLS, TextProtocol, TokenizedText, Window, cut, draw
from olivine.passes.errors import UsageError


def text(tokens: int, bos: tuple[int, ...] = ()) -> TokenizedText:
    """Token n is n + 1 and stands for one é: two bytes."""
    return TokenizedText("é" * tokens, tuple(range(1, tokens + 1)), tuple((n, n + 1) for n in range(tokens)), bos)


def test_windows_without_bos_do_not_score_their_first_token() -> None:
    pieces = cut(text(10), TextProtocol(window_tokens=4, stride=4))
    assert pieces == [Window((1, 2, 3, 4), 3, 6), Window((5, 6, 7, 8), 3, 6)]


def test_bos_opens_every_window_and_makes_its_first_token_count() -> None:
    pieces = cut(text(7, bos=(0,)), TextProtocol(window_tokens=4, stride=3))
    assert pieces == [Window((0, 1, 2, 3), 3, 6), Window((0, 4, 5, 6), 3, 6)]


def test_bos_may_open_the_text_only() -> None:
    pieces = cut(text(7, bos=(0,)), TextProtocol(window_tokens=4, stride=4, bos="text"))
    assert pieces == [Window((0, 1, 2, 3), 3, 6), Window((4, 5, 6, 7), 3, 6)]


def test_an_overlap_is_context_and_not_scored_again() -> None:
    pieces = cut(text(10), TextProtocol(window_tokens=6, stride=2))
    assert pieces == [
        Window((1, 2, 3, 4, 5, 6), 5, 10),
        Window((3, 4, 5, 6, 7, 8), 2, 4),
        Window((5, 6, 7, 8, 9, 10), 2, 4),
    ]


def test_the_hugging_face_protocol_scores_what_its_loop_scores() -> None:
    # The loop of https://huggingface.co/docs/transformers/perplexity on 2,500 tokens.
    length, most, stride = 2500, 1024, 512
    expected, previous = [], 0
    for begin in range(0, length, stride):
        end = min(begin + most, length)
        labels = end - previous
        expected.append((end - begin, min(labels, end - begin - 1)))  # labels are shifted by one inside the model
        previous = end
        if end == length:
            break
    pieces = cut(text(length), PROTOCOLS["wikitext2-hf"])
    assert [(len(w.tokens), w.scored) for w in pieces] == expected


def test_the_gptq_protocol_has_whole_windows_only() -> None:
    pieces = cut(text(5000), PROTOCOLS["wikitext2-gptq"])
    assert [(len(w.tokens), w.scored) for w in pieces] == [(2048, 2047), (2048, 2047)]


@given(
    tokens=st.integers(0, 80),
    window=st.integers(3, 20),
    overlap=st.integers(0, 10),
    bos=st.sampled_from(["window", "text", "none"]),
    rest=st.booleans(),
)
def test_no_token_is_scored_twice_and_context_comes_before(
    tokens: int, window: int, overlap: int, bos: str, rest: bool
) -> None:
    stride = max(1, window - 1 - overlap)
    protocol = TextProtocol(window, stride, bos, keep_rest=rest)  # type: ignore[arg-type]
    pieces = cut(text(tokens, bos=(0,)), protocol)
    scored = [token for w in pieces for token in w.tokens[len(w.tokens) - w.scored :]]
    assert len(set(scored)) == len(scored)
    assert scored == sorted(scored)
    assert all(len(w.tokens) <= window and 0 < w.scored < len(w.tokens) for w in pieces)
    assert all(w.text_bytes == 2 * w.scored for w in pieces)
    if rest and bos != "none" and tokens > 1:
        assert len(scored) == tokens


def test_windows_are_drawn_in_a_random_order_that_the_seed_fixes() -> None:
    protocol = TextProtocol(window_tokens=4, stride=4)
    all_of_them = draw(text(400), protocol, seed=1)
    assert len(all_of_them) == 100
    assert list(all_of_them) != cut(text(400), protocol)
    assert sorted(w.tokens for w in all_of_them) == [w.tokens for w in cut(text(400), protocol)]
    assert draw(text(400), protocol, count=7, seed=1) == all_of_them[:7]
    assert draw(text(400), protocol, count=7, seed=2) != all_of_them[:7]


def test_a_text_that_is_too_short_says_what_it_has_and_what_is_needed() -> None:
    with pytest.raises(UsageError, match=r"news has 0 tokens|news is too short: it has 30 tokens, 5 .* need 40"):
        draw(text(30), TextProtocol(8, 8), count=5, name="news")
