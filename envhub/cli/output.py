"""What the command prints: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

PIPE_WIDTH = 160  # columns where the other end is no terminal, so that nothing is cut for want of one

C0, C1 = set(range(0x20)) - {*b"\t\n"}, range(0x80, 0xA0)
REORDER = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # Unicode TR 9, explicit directional formatting
VISIBLE = {code: 0x2400 + code for code in C0} | {0x7F: 0x2421} | dict.fromkeys((*C1, *REORDER), 0xFFFD)
AS_JSON = {code: f"\\u{code:04x}" for code in (0x7F, *C1)}  # the others json escapes itself


class PlainConsole(Console):
    """Shows control characters instead of sending them: what a model wrote could wipe the screen, put a command into
    the clipboard, or read differently from what it is."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(VISIBLE), style, control)


out = PlainConsole(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = PlainConsole(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def fail(message: str) -> None:
    """One line that says what was wrong."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def note(message: str) -> None:
    """One line on the side."""
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def print_json(value: object) -> None:
    """The machine's answer, alone on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str).translate(AS_JSON) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        last = column == columns[-1]  # which alone gives way in a narrow terminal
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=not last)
    for row in rows:
        drawn.add_row(*(escape(cell.translate(VISIBLE)) for cell in row))  # now: columns are as wide as what is shown
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
