"""What the command prints: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_WIDTH = 160  # columns where the other end is no terminal, so that nothing is cut for want of one

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def fail(message: str) -> None:
    """One line that says what was wrong."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def note(message: str) -> None:
    """One line on the side."""
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def print_json(value: object) -> None:
    """The machine's answer, alone on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        last = column == columns[-1]  # which alone gives way in a narrow terminal
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=not last)
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def facts(rows: Sequence[Sequence[str]]) -> Table:
    """Rows of markup without a header, whose last column wraps within itself."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        drawn.add_row(*row)
    for column in drawn.columns:
        column.no_wrap, column.overflow = column is not drawn.columns[-1], "fold"
    return drawn


def number(value: float | None, digits: int = 2) -> str:
    """A number for a person; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def count(number: int, noun: str) -> str:
    """`1 run`, `2,000 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
