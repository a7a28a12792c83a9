"""The rollouts that are out of the ordinary: long, branching, with pictures, hostile, cut short, still running."""

import struct
import zlib
from collections.abc import Sequence

from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.outcome import Status
from envhub.contracts.score import Score
from envhub.contracts.turn import Fork
from envhub.testing.showcase.writer import Writer

PROSE = (
    "we look at the next case and see that the sum of the first terms is bounded by the last one so the claim holds "
    "for every even number ; the odd ones follow by the same step once more , which the table below shows in full . "
)
WORDS = PROSE.split()
HUGE_LINE = "abcdefghijklmnop" * 65_536  # 1 MiB without a break
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\n"
    "\x1b[31mred by ANSI\x1b[0m and a bell \x07\n"
    "user\u202egnp.exe\u202c turns around, zero\u200bwidth, [link](javascript:alert(1))\n"
    "\u2066hidden\u2069 \x00 end"
)


def prose(words: int, start: int = 0) -> str:
    """That many words, the same each time."""
    return " ".join(WORDS[(start + place) % len(WORDS)] for place in range(words))


def picture(width: int, height: int, red: int, blue: int) -> bytes:
    """A PNG of a gradient."""
    rows = b"".join(
        b"\0"
        + bytes(value for x in range(width) for value in (red, 255 * x // width, (blue + 160 * y // height) % 256))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def call(number: int, name: str, **arguments: object) -> ToolCall:
    return ToolCall(f"call-{number}", name, arguments)


def long(writer: Writer, tokens: int) -> None:
    """Forty turns, `tokens` in all; the weights change in the middle of some."""
    turns = 40
    each = tokens // turns
    news: Sequence[Message] = writer.start.request.task.prompt
    for index in range(turns):
        said = prose(int(each * 0.83), index * 7)
        code = f"for n in range({index}):\n    print(n, sum(range(n)))"
        last = index == turns - 1
        reply = Message.assistant(said, () if last else (call(index, "python", code=code),))
        versions = (writer.version, writer.version + 1) if index % 13 == 6 else ()
        turn = writer.turn(news, reply, versions=versions)
        writer.version += len(versions) // 2
        result = prose(int(each * 0.167), index)
        answer = Message.user("Correct.") if last else Message.tool(f"{index}\n{result}", f"call-{index}")
        writer.step(turn, (answer,), took_s=0.6, reward=float(last))
        news = (answer,)
    writer.log("context grew past 100,000 tokens", tokens=tokens // 2)
    writer.end(score=Score(1.0, {"correct": 1.0}, "the proof is complete"), response="done", judged_s=1.5)


def branching(writer: Writer) -> None:
    """A retry, an edit, a compaction and a side call: five branches from one conversation."""
    prompt = writer.start.request.task.prompt
    looked = Message.assistant("Let me look at the failing test first.", (call(0, "python", code="pytest -x"),))
    first = writer.turn(prompt, looked)
    failed = Message.tool("E   assert parse('1,2') == [1, 2]\nE   got ['1', '2']", "call-0")
    writer.step(first, (failed,), took_s=2.4)
    patched = Message.assistant("parse() keeps strings. I convert them.", (call(1, "python", code="patch()"),))
    second = writer.turn((failed,), patched)
    writer.wire(second)
    writer.turn((failed,), Message.assistant("Maybe the test is wrong."), parent=first.index, fork=Fork.RETRY)
    done = Message.tool("2 passed", "call-1")
    writer.step(second, (done,), took_s=3.1)
    title = Message.user("Give this conversation a title of at most five words.")
    writer.turn((*prompt, title), Message.assistant("Fix parse()"), parent=None, fork=Fork.SIDE_CALL)
    more = writer.turn((done,), Message.assistant("All tests pass. I also check the edge cases."), parent=second.index)
    short = Message.user("Summary: parse() now converts to int; two tests pass.")
    compact = writer.turn((*prompt, short), Message.assistant("I go on from here."), parent=None, fork=Fork.COMPACTION)
    edited = writer.turn(
        (failed, Message.user("Use int(), not eval().")), Message.assistant("Right: int() it is."),
        parent=first.index, fork=Fork.EDITED,
    )  # fmt: skip
    assert more.index < compact.index < edited.index
    parts = {"tests": 1.0, "style": -0.1, "length": -0.18}
    earned = {first.index: -0.05, second.index: 0.6}
    score = Score(0.72, parts, "tests pass; the diff is larger than needed", turn_rewards=earned)
    writer.end(score=score, response="All tests pass.", judged_s=4.0)


def pictures(writer: Writer) -> None:
    """Sees two pictures, and gets a third from a tool."""
    prompt = writer.start.request.task.prompt
    look = Message.assistant("", (call(0, "crop", x=40, y=10, width=120, height=90),))
    turn = writer.turn(prompt, look)
    seen = Message.user("The cut that you asked for:", picture(120, 90, 200, 40))
    writer.step(turn, (Message.tool("cropped", "call-0"), seen), took_s=0.3)
    answer = Message.assistant("The left bar is higher by about a third.")
    last = writer.turn((Message.tool("cropped", "call-0"), seen), answer)
    writer.step(last, (Message.user("Correct."),), took_s=0.1, reward=1.0)
    writer.end(score=Score(1.0, {"close": 1.0}, "within 5 % of the answer"), response=answer.content)


def hostile(writer: Writer) -> None:
    """Says what would take a careless page over, and gets a line of a megabyte."""
    prompt = writer.start.request.task.prompt
    turn = writer.turn(prompt, Message.assistant(HOSTILE, (call(0, "python", code=HOSTILE),)))
    answer = Message.tool(HUGE_LINE, "call-0")
    writer.step(turn, (answer,), took_s=0.4)
    writer.log(HOSTILE, html="<b>bold</b>")
    last = writer.turn((answer,), Message.assistant(f"It says {HOSTILE}"))
    writer.step(last, (Message.user("No."),), took_s=0.1)
    writer.end(score=Score(0.0, {"correct": 0.0}, f"explained by {HOSTILE}"), response=HOSTILE)


def running(writer: Writer, turns: int) -> None:
    """Takes some turns and is still at it."""
    news: Sequence[Message] = writer.start.request.task.prompt
    for index in range(turns):
        turn = writer.turn(news, Message.assistant(prose(30, index), (call(index, "search", query="sum of n"),)))
        news = (Message.tool(prose(12, index), f"call-{index}"),)
        writer.step(turn, news, took_s=1.2)


def cut_short(writer: Writer) -> None:
    """Runs into the limit of its turns."""
    running(writer, 6)
    writer.end(Status.TRUNCATED, truncated_by="turns", score=Score(0.1, {"correct": 0.0, "effort": 0.1}))
