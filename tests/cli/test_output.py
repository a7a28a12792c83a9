"""What models wrote is shown, and does nothing to the terminal that shows it."""

import json
import sys

import pytest
from rich.markup import escape

from envhub.cli.output import fail, note, out, print_json, table
from envhub.cli.trainer import run_trainer

NASTY = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\r\x7f\u202e"  # the clipboard, the screen, a colour, the line, the order
SHOWN = "␛]52;c;cm0gLXJm␇␛[2J�31m␍␡�"

pytestmark = pytest.mark.anyio


def controls(text: str) -> set[str]:
    return {
        letter
        for letter in text
        if (ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160 or letter == "\u202e"
    }


def test_control_characters_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]):
    out.print(escape(NASTY), soft_wrap=True)
    fail(NASTY)
    note(NASTY)
    said = capsys.readouterr()
    assert not controls(said.out + said.err)
    assert said.out.count("␛]52") == 1
    assert said.err.count("␛]52") == 2


def test_cells_are_as_wide_as_what_they_show(capsys: pytest.CaptureFixture[str]):
    out.print(table(("first", "second"), [(NASTY, "[bold]b")]))
    said = capsys.readouterr().out
    assert f"{SHOWN}  [bold]b" in said
    assert not controls(said)


def test_json_for_programs_is_safe_on_a_terminal_and_reads_back_as_it_was(capsys: pytest.CaptureFixture[str]):
    print_json({"said": NASTY})
    said = capsys.readouterr().out
    assert not controls(said.replace("\u202e", ""))
    assert json.loads(said) == {"said": NASTY}


async def test_a_trainer_has_its_colours_and_no_other_control(capsys: pytest.CaptureFixture[str]):
    await run_trainer([sys.executable, "-c", f"print({NASTY[:-1]!r} + '\\x1b[31mred\\x1b[0m')"], "127.0.0.1:1")
    said = capsys.readouterr().err
    assert "trainer" in said
    assert "red" in said
    assert not controls(said)
