"""FittedTable: rows of figures, each with words about it, on a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: Columns that words need beside the figures; with fewer they go below their row.
WORDS_WIDTH = 30
_GAP, _INDENT = 3, 4


@dataclass(frozen=True)
class FittedRow:
    """One row.

    Attributes:
        cells: one for each heading.
        words: about the row.
        style: of the row.
        begins_section: a gap stands above it.
    """

    cells: tuple[str | Text, ...]
    words: Text
    style: str = ""
    begins_section: bool = False


@dataclass(frozen=True)
class FittedTable:
    """A table whose last column is words.

    Where the words have no room beside the figures, they stand below each row. Where the figures have none either,
    those on the right are left out, and a line says so.

    Attributes:
        headings: of the figures, the most important on the left.
        justify: "left" or "right" for each of them.
        words: heading of the words; without any, there is no such column.
        rows: the rows.
    """

    headings: tuple[str, ...]
    justify: tuple[str, ...]
    words: str
    rows: Sequence[FittedRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(cell_len(heading), *(_width(row.cells[index]) for row in self.rows), 0)
            for index, heading in enumerate(self.headings)
        ]
        words = WORDS_WIDTH if self._has_words else 0
        if sum(widths) + _GAP * len(widths) + words <= options.max_width:
            yield self._table()
        else:
            yield from self._stacked(widths, options.max_width)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading, justify in zip(self.headings, self.justify, strict=True):
            table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
        if self._has_words:
            table.add_column(self.words, overflow="fold", ratio=1)
        for row in self.rows:
            if row.begins_section:
                table.add_section()
            table.add_row(*row.cells, *([row.words] if self._has_words else []), style=row.style)
        return table

    @property
    def _has_words(self) -> bool:
        return any(row.words for row in self.rows)

    def _stacked(self, widths: Sequence[int], width: int) -> RenderResult:
        count = len(widths)
        while count > 1 and sum(widths[:count]) + _GAP * (count - 1) > width:
            count -= 1
        yield self._line(self.headings, widths[:count], "bold")
        for row in self.rows:
            if row.begins_section:
                yield ""
            yield self._line(row.cells, widths[:count], row.style)
            if row.words:
                yield Padding(row.words, (0, 0, 0, _INDENT))
        if count < len(widths):
            yield Text(f"not shown in {width} columns: {', '.join(self.headings[count:])}", style="dim")

    def _line(self, cells: Sequence[str | Text], widths: Sequence[int], style: str) -> Text:
        line = Text(style=style, no_wrap=True)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=False)):
            text = cell.copy() if isinstance(cell, Text) else Text(cell)
            text.align("right" if self.justify[index] == "right" else "left", width)
            line.append(" " * _GAP if index else "").append_text(text)
        return line


def _width(cell: str | Text) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(cell)
