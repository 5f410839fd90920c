"""Articles of a MediaWiki dump: prose without its markup."""

from __future__ import annotations

from xml.sax.saxutils import escape

from olivine.evaluators.data.wiki_dump import LEAST_CHARACTERS, articles

LONG = "words " * (LEAST_CHARACTERS // 6 + 1)


def page(text: str, namespace: int = 0, more: str = "") -> str:
    return f"<page><title>t</title><ns>{namespace}</ns>{more}<revision><text>{escape(text)}</text></revision></page>"


def test_links_emphasis_notes_and_comments_leave_their_words() -> None:
    marked = f"A '''[[wolf|grey wolf]]'''<ref name=\"a\">Smith.</ref> is an [[animal]]<!-- so --> &amp; {LONG}"
    (article,) = articles(page("\n\n".join([marked] * 3)))
    assert article.split("\n")[0] == f"A grey wolf is an animal & {LONG}".strip()
    assert article.count("\n") == 2


def test_paragraphs_with_markup_that_is_no_prose_are_left_out() -> None:
    others = [f"== {LONG} ==", f"* {LONG}", f"{LONG} {{{{convert|3|km}}}}", f"{LONG} <math>x</math>", "short"]
    (article,) = articles(page("\n\n".join([f"Good {LONG}", *others, f"Better {LONG}", f"Best {LONG}"])))
    assert [line.split()[0] for line in article.split("\n")] == ["Good", "Better", "Best"]


def test_redirects_pages_about_pages_and_pages_without_prose_are_no_articles() -> None:
    prose = "\n\n".join([f"Good {LONG}"] * 3)
    dump = page(prose, namespace=4) + page(prose, more='<redirect title="u" />') + page("* a list") + page(prose)
    assert len(articles(dump)) == 1
