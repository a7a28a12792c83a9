"""What the command prints: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """One line that says what was wrong."""
    err.print(f"[bold red]error:[/] {escape(message)}")


def note(message: str) -> None:
    """One line on the side."""
    err.print(f"[dim]{escape(message)}[/]")


def print_json(value: object) -> None:
    """The machine's answer, alone on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def number(value: float | None, digits: int = 2) -> str:
    """A number for a person; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"
