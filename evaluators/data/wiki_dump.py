"""Articles of a MediaWiki dump as plain prose: no markup, no tables, no lists."""

from __future__ import annotations

import re
from html import unescape

#: A shorter line is a heading, an item of a list or a caption.
LEAST_CHARACTERS = 200
#: Fewer paragraphs are left of pages that hold lists or templates.
LEAST_PARAGRAPHS = 3
_PAGE = re.compile(r"<page>.*?</page>", re.DOTALL)
_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)
#: Comments and footnotes.
_NOTES = re.compile(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>", re.DOTALL)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_QUOTES = re.compile(r"'{2,}")
_MARKUP = re.compile(r"[{}\[\]<>|=]")


def articles(dump: str) -> list[str]:
    """The prose of each article of a dump, its paragraphs a line each; redirects and pages about pages are left out.

    A paragraph with a template, a formula or other markup in it is left out as a whole: what remains reads as written.

    Args:
        dump: XML, as MediaWiki exports it.
    """
    pages = (page for page in _PAGE.findall(dump) if "<ns>0</ns>" in page and "<redirect" not in page)
    found = (_paragraphs(text[1]) for page in pages if (text := _TEXT.search(page)) is not None)
    return ["\n".join(paragraphs) for paragraphs in found if len(paragraphs) >= LEAST_PARAGRAPHS]


def _paragraphs(escaped: str) -> list[str]:
    # Wiki text is escaped once as XML, and has HTML entities of its own.
    text = unescape(_NOTES.sub("", unescape(escaped)))
    lines = (" ".join(_QUOTES.sub("", _LINK.sub(r"\1", line)).split()) for line in text.split("\n"))
    return [line for line in lines if len(line) >= LEAST_CHARACTERS and line[0].isalpha() and not _MARKUP.search(line)]
