"""The loss on each kind of text, as terminal and report show it."""

from __future__ import annotations

from study_folder import entry

from olivine.search.report.sections import loss_by_text, table_by_text

OWN = {
    "perplexity_ratio": entry("perplexity_ratio", 1.02, 0.01, text="demo:news"),
    "kl_divergence": entry("kl_divergence", 0.05, 0.1, text="demo:news"),
}
ELSEWHERE = {
    f"{name}.books": m
    for name, m in (
        ("perplexity_ratio", entry("perplexity_ratio", 1.04, 0.01)),
        ("kl_divergence", entry("kl_divergence", 0.08, 0.1)),
    )
}


def test_a_line_says_ratio_and_divergence_on_each_kind_of_text() -> None:
    assert loss_by_text({**OWN, **ELSEWHERE}) == [
        "loss on demo:news: ppl ratio 1.020 ±0.010, KL 0.05 ±0.01",
        "loss on books: ppl ratio 1.040 ±0.010, KL 0.08 ±0.01",
    ]


def test_one_kind_of_text_alone_needs_no_table() -> None:
    assert loss_by_text(OWN) == []
    assert table_by_text({1: OWN}) is None
    assert table_by_text({}) is None


def test_a_member_has_a_row_and_an_empty_cell_for_what_was_not_measured() -> None:
    table = table_by_text({3: {**OWN, **ELSEWHERE}, 1: OWN})
    assert table is not None
    assert table["headings"] == ["ppl ratio on demo:news", "KL on demo:news", "ppl ratio on books", "KL on books"]
    assert [row["number"] for row in table["rows"]] == [3, 1]
    assert table["rows"][1]["cells"][2:] == ["", ""]
