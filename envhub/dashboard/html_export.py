"""One rollout as an HTML file that needs nothing else: no script, no network; pictures are inside.

Everything that a model or a tool wrote is text: escaped, with the characters that hide or reorder others made visible.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from envhub.contracts.messages import Image, Message
from envhub.contracts.score import Score
from envhub.contracts.store import RolloutSummary
from envhub.dashboard.records import TranscriptEntry
from envhub.dashboard.timeline import Lane, Timeline

# Control characters but tab and newline, and what reorders or hides text (Unicode TR 36, bidi controls).
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
PICTURES = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))

STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --engine: #4c78a8; --tool: #f58518; --judge: #54a24b;
 --children: #b279a2; --environment: #9d755d; --paused: #bab0ac; --platform: #8886; }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.2rem; overflow-wrap: anywhere; } h2 { font-size: 1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
th { color: var(--dim); font-weight: 500; }
article { border-top: 1px solid var(--line); padding: .6rem 0; }
header { color: var(--dim); font-size: .85rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; margin: .3rem 0; }
.reasoning { color: var(--dim); border-left: 3px solid var(--line); padding-left: .8rem; }
img { max-width: 100%; }
.lane { display: flex; align-items: center; gap: .6rem; font-size: .8rem; }
.lane span { width: 16rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lane svg { flex: 1; height: 1rem; background: #8881; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def html_page(
    summary: RolloutSummary,
    transcript: Sequence[TranscriptEntry],
    score: Score | None,
    time: Timeline,
    pictures: Mapping[str, bytes],
) -> str:
    """The file; `pictures` are by their hashes."""
    parts = [
        f"<h1>{visible(summary.rollout_id)}</h1>",
        _facts(summary, score),
        "<h2>Timeline</h2>",
        *(_lane(lane, time.seconds) for lane in time.lanes),
        "<h2>Transcript</h2>",
        *(_entry(entry, pictures) for entry in transcript),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{visible(summary.rollout_id)}</title>'
        f"<style>{STYLE}</style>"
    )
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def visible(text: str) -> str:
    """As HTML that shows each character, also those that are meant not to be seen."""
    return escape(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _facts(summary: RolloutSummary, score: Score | None) -> str:
    rows: list[tuple[str, object]] = [
        ("environment", summary.environment),
        ("task", summary.task_id),
        ("status", f"{summary.status or 'running'} {summary.truncated_by}"),
        ("reward", "none" if summary.reward is None else f"{summary.reward:g}"),
        *((name, f"{value:g}") for name, value in (score.components if score else {}).items()),
        ("explanation", score.explanation if score else ""),
        ("failure", f"{summary.failure}: {summary.failure_message}" if summary.failure else ""),
        ("started", datetime.fromtimestamp(summary.started_at, UTC).isoformat(timespec="seconds")),
        ("policy", f"{summary.policy_id}, versions {summary.version_min} to {summary.version_max}"),
        ("tokens", f"{summary.sampled_tokens:,} sampled, {summary.prompt_tokens:,} read, {summary.turns} turns"),
    ]
    cells = (f"<tr><th>{visible(name)}</th><td>{visible(str(value))}</td></tr>" for name, value in rows if value)
    return f"<table>{''.join(cells)}</table>"


def _lane(lane: Lane, seconds: float) -> str:
    bars = "".join(
        f'<rect x="{segment.start / seconds:.5%}" width="{(segment.end - segment.start) / seconds:.5%}" height="100%"'
        f' fill="var(--{segment.kind})"><title>{visible(f"{segment.kind} {segment.label}")}: '
        f"{segment.end - segment.start:.3f} s</title></rect>"
        for segment in lane.segments
        if seconds > 0
    )
    name = f"<span>{visible(lane.rollout_id)}</span>"
    return f'<div class=lane>{name}<svg role="img" aria-label="timeline">{bars}</svg></div>'


def _entry(entry: TranscriptEntry, pictures: Mapping[str, bytes]) -> str:
    about = [entry.message.role.value]
    if entry.turn >= 0:
        about.append(f"turn {entry.turn}")
    if entry.sampled:
        about.append("sampled")
    if entry.fork:
        about.append(f"a branch begins: {entry.fork}")
    body = "".join(_body(entry.message, pictures))
    return f"<article><header>{visible(', '.join(about))}</header>{body}</article>"


def _body(message: Message, pictures: Mapping[str, bytes]) -> Iterator[str]:
    if message.reasoning:
        yield f'<pre class="reasoning">{visible(message.reasoning)}</pre>'
    if message.content:
        yield f"<pre>{visible(message.content)}</pre>"
    for call in message.tool_calls:
        yield f"<pre>{visible(call.name)}({visible(call.error or repr(dict(call.arguments)))})</pre>"
    yield from _images(message.images, pictures)


def _images(images: Iterable[Image], pictures: Mapping[str, bytes]) -> Iterator[str]:
    for image in images:
        data = pictures.get(image.sha256)
        if data is not None and image.media_type in PICTURES:
            encoded = base64.b64encode(data).decode()
            yield f'<img alt="picture, {image.width} x {image.height}" src="data:{image.media_type};base64,{encoded}">'
        else:
            yield f"<p>(a picture, {image.width} x {image.height}, that is not in this store)</p>"
