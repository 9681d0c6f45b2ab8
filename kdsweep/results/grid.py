"""A table that leaves out its least important columns where the terminal is too narrow for them."""

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 3


class Grid:
    """Rows under heads. All cells are data, never markup.

    Attributes:
        caption: A line below the table.
    """

    def __init__(
        self, heads: Sequence[str], *, numeric: Collection[str] = (), optional: Collection[str] = ()
    ) -> None:
        """Starts an empty table.

        Args:
            heads: Heads of the columns.
            numeric: Those that are aligned to the right.
            optional: Those that may be left out, the last one first.
        """
        self.caption = ""
        self._heads, self._numeric, self._optional = list(heads), set(numeric), set(optional)
        self._rows: list[tuple[list[Text], str]] = []
        self._sections: set[int] = set()

    def add_row(self, *cells: Text | str, style: str = "") -> None:
        """Adds a row; cells that are missing at its end stay empty."""
        texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        texts += [Text()] * (len(self._heads) - len(texts))
        self._rows.append((texts, style))

    def end_section(self) -> None:
        """Draws a gap below the last row."""
        self._sections.add(len(self._rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws as many columns as fit."""
        shown = self._fitting(options.max_width)
        table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for column in shown:
            head = self._heads[column]
            right = head in self._numeric
            wraps = column == shown[-1] and not right
            table.add_column(
                Text(head), justify="right" if right else "left", no_wrap=not wraps, overflow="fold"
            )
        for index, (cells, style) in enumerate(self._rows):
            section = index in self._sections
            table.add_row(*[cells[c] for c in shown], style=style, end_section=section)
        yield table
        if self.caption:
            yield Text(self.caption, style="dim")
        if len(shown) < len(self._heads):
            left_out = [head for c, head in enumerate(self._heads) if c not in shown]
            yield Text(f"Too narrow for: {', '.join(left_out)}.", style="dim")

    def _fitting(self, width: int) -> list[int]:
        widths = [
            max([len(head), *(cells[column].cell_len for cells, _ in self._rows)])
            for column, head in enumerate(self._heads)
        ]
        shown = list(range(len(self._heads)))
        for column in reversed(range(len(self._heads))):
            if sum(widths[c] + _GAP for c in shown) <= width:
                break
            if self._heads[column] in self._optional:
                shown.remove(column)
        return shown
