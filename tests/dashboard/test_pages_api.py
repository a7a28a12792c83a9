"""What each page asks for, over a small run."""

import io
import json

import httpx
import msgspec
import pyarrow.parquet
import pytest

from envhub.contracts.messages import Message
from envhub.dashboard.calls import HIDDEN, without_secrets
from envhub.dashboard.html_export import visible
from envhub.dashboard.records import LONGEST_TEXT, TranscriptEntry
from envhub.monitor.audit import audit
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import CHILD, FAILED, GROUP, HOSTILE, LIVE, RUN, SOLVED, closing

pytestmark = pytest.mark.anyio


async def get(client: httpx.AsyncClient, path: str, **query: object) -> object:
    response = await client.get(f"/api{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"sort": "reward"}, [SOLVED, CHILD, LIVE, FAILED]),
        ({"sort": "reward", "descending": "false"}, [CHILD, SOLVED, FAILED, LIVE]),
        ({"sort": "duration"}, [SOLVED, FAILED, CHILD, LIVE]),
        ({"sort": "turns", "limit": "2"}, [SOLVED, LIVE]),
        ({"status": ["failed", "truncated"]}, [FAILED, CHILD]),
        ({"status": "running"}, [LIVE]),
        ({"boundary": "sandbox"}, [FAILED]),
        ({"policy": "policy", "version_min": "5"}, [SOLVED]),
        ({"text": "alert sampled"}, [SOLVED]),
        ({"text": '"2 + 3"'}, [LIVE, SOLVED]),
        ({"task": "two-and-three", "group": GROUP, "roots_only": "true"}, [LIVE, FAILED, SOLVED]),
    ],
)
async def test_the_list_is_filtered_and_sorted(
    client: httpx.AsyncClient, query: dict[str, object], expected: list[str]
):
    page = await get(client, "/rollouts", **query)
    assert [one["rollout_id"] for one in page["rollouts"]] == expected
    assert page["search"] is None or page["search"]["indexed"] == page["search"]["of"]


async def test_facets_count_what_the_list_shows(client: httpx.AsyncClient):
    facets = await get(client, "/rollouts/facets", roots_only="true")
    assert facets["status"] == {"running": 1, "completed": 1, "failed": 1}
    assert facets["boundary"] == {"sandbox": 1}
    assert sum(facets["reward"]["counts"]) == 1


async def test_a_text_without_a_word_is_refused(client: httpx.AsyncClient):
    response = await client.get("/api/rollouts", params={"text": "???"})
    assert (response.status_code, response.json()["detail"][:22]) == (400, "there is no word to lo")


async def test_the_timeline_tiles_each_life_and_names_the_critical_path(client: httpx.AsyncClient):
    timeline = await get(client, f"/rollouts/{CHILD}/timeline")
    root, child = timeline["lanes"]
    assert (root["rollout_id"], child["rollout_id"], child["depth"]) == (SOLVED, CHILD, 1)
    for lane in timeline["lanes"]:
        ends = [lane["start"], *(segment["end"] for segment in lane["segments"])]
        assert [segment["start"] for segment in lane["segments"]] == ends[:-1]
        assert ends[-1] == lane["end"]
    assert [part["rollout_id"] for part in timeline["critical_path"]] == [SOLVED, CHILD, SOLVED]
    assert timeline["seconds"] == 4.0
    assert "children" in [segment["kind"] for segment in root["segments"]]


async def test_marks_lead_to_low_tokens_versions_and_turns(client: httpx.AsyncClient):
    marks = await get(client, f"/rollouts/{SOLVED}/rows/0/marks", below=-0.5)
    assert marks["low_total"] == len(marks["low"]) == sum(1 for _ in marks["low"])
    assert [mark["version"] for mark in marks["versions"]] == [4, 5]
    assert [mark["turn"] for mark in marks["turns"]] == [0, 1]
    assert (await get(client, f"/rollouts/{SOLVED}/rows/0/marks", below=-0.8))["low"] == []
    assert len(marks["overview"]["mean_logprob"]) == len(marks["overview"]["sampled"]) <= 512


async def test_branches_show_turns_and_where_they_train(client: httpx.AsyncClient):
    branches = await get(client, f"/rollouts/{SOLVED}/branches")
    assert [(node["turn"], node["parent"], node["rows"], node["trains_in"]) for node in branches["nodes"]] == [
        (0, None, [0], 0),
        (1, 0, [0], 0),
    ]


async def test_a_call_shows_its_whole_prompt_and_what_is_new(client: httpx.AsyncClient):
    first, second = await get(client, f"/rollouts/{SOLVED}/calls")
    assert (first["messages"], second["messages"], second["new_messages"]) == (1, 3, 1)
    call = await get(client, f"/rollouts/{SOLVED}/calls/1")
    assert [message["role"] for message in call["canonical"]["messages"]] == ["user", "assistant", "tool"]
    assert [(part["kind"], part["count"]) for part in call["diff"]] == [("same", 1), ("added", 2)]
    assert call["previous"] == 0
    assert (await client.get(f"/api/rollouts/{SOLVED}/calls/9")).status_code == 404


def test_secrets_of_a_request_are_hidden_and_numbers_of_tokens_are_not():
    asked = {"headers": {"Authorization": "Bearer x", "x-api-key": "y"}, "max_tokens": 5, "list": [{"api_key": "z"}]}
    hidden = without_secrets(asked)
    assert hidden == {
        "headers": {"Authorization": HIDDEN, "x-api-key": HIDDEN},
        "max_tokens": 5,
        "list": [{"api_key": HIDDEN}],
    }


async def test_a_group_shows_its_members_side_by_side(client: httpx.AsyncClient, store: MemoryTraceStore):
    await store.append(closing())
    group = await get(client, f"/groups/{GROUP}")
    assert group["group"]["rewards"] == [0.75, None, 1.0]
    assert [member["advantage"] for member in group["members"]] == [-0.125, None, 0.125]
    assert [member["state"] for member in group["members"]] == ["scored", "failed", "scored"]
    assert group["members"][0]["diverges_at"] == 1  # all were asked the same
    assert group["request"]["k"] == 3
    (listed,) = (await get(client, "/groups"))["groups"]
    assert listed["group"]["group_id"] == GROUP
    assert (await client.get("/api/groups/nobody")).status_code == 404


async def test_environments_and_tasks_have_their_figures(client: httpx.AsyncClient):
    (line,) = await get(client, "/environments/summary", pass_at=0.5, roots_only="true")
    assert (line["environment"], line["rollouts"], line["pass_rate"]) == ("demo/sums-v0", 3, 1.0)
    report = await get(client, "/environments/report", environment="demo/sums-v0")
    assert report["failures"] == [{"boundary": "sandbox", "message": "the sandbox died", "count": 1, "example": FAILED}]
    assert report["truncated"] == {"turns": 1}
    task = await get(client, "/tasks/report", environment="demo/sums-v0", task="two-and-three")
    assert task["prompt"][0]["content"] == "What is 2 + 3?"
    assert task["answer"] == 5
    assert (await client.get("/api/environments/report", params={"environment": "x/y-v0"})).status_code == 404
    assert "name one" in (await client.get("/api/environments/report")).json()["detail"]


async def test_the_overview_counts_what_runs_and_how_it_ended(client: httpx.AsyncClient):
    overview = await get(client, "/overview")
    assert (overview["running"], overview["submitted"]) == (1, 3)
    assert overview["outcomes"] == {"running": 1, "completed": 1, "truncated": 1, "failed": 1}
    assert overview["boundaries"] == {"sandbox": 1}
    (slow,) = overview["slow"]
    assert (slow["rollout"]["rollout_id"], slow["stuck"]) == (LIVE, True)  # it began half a century ago
    assert overview["live"] is None


async def test_a_run_tells_what_it_used(client: httpx.AsyncClient):
    run = await get(client, f"/runs/{RUN}")
    assert (run["environments"], run["policies"], run["rollouts"]) == (["demo/sums-v0"], ["policy"], 4)
    assert run["versions"] == [4, 5]
    assert (await client.get("/api/runs/nobody")).status_code == 404


async def test_an_exported_page_needs_nothing_and_runs_nothing(client: httpx.AsyncClient):
    response = await client.get(f"/api/rollouts/{SOLVED}/export.html")
    assert response.headers["content-disposition"] == f'attachment; filename="{SOLVED}.html"'
    assert "default-src 'none'" in response.text
    assert "<script" not in response.text
    assert "&lt;script&gt;" in response.text
    assert "http" not in response.text.replace("http-equiv", "")


def test_text_that_hides_is_made_visible():
    assert visible("a\u202eb\x1b[31m<b>") == "a\\u202eb\\u001b[31m&lt;b&gt;"


async def test_lists_and_events_are_exported_line_by_line(client: httpx.AsyncClient):
    lines = (await client.get("/api/rollouts/export.jsonl", params={"status": "failed"})).text.splitlines()
    assert [json.loads(line)["rollout_id"] for line in lines] == [FAILED]
    events = [json.loads(line) for line in (await client.get(f"/api/rollouts/{SOLVED}/export.jsonl")).text.splitlines()]
    assert [event["event"] for event in events][:3] == ["RolloutStarted", "LogRecorded", "TurnRecorded"]
    assert events[2]["turn"]["output_ids"] == list(b"add(2, 3)")
    parquet = (await client.get("/api/rollouts/export.parquet")).content
    assert pyarrow.parquet.read_table(io.BytesIO(parquet)).column("rollout_id").to_pylist()[0] == SOLVED


def test_endless_texts_are_cut_and_say_how_long_they_are():
    entry = TranscriptEntry(message=Message.user("x" * (LONGEST_TEXT + 5))).shortened()
    assert (len(entry.message.content), entry.cut_from) == (LONGEST_TEXT, LONGEST_TEXT + 5)
    assert TranscriptEntry(message=Message.user("x")).shortened().cut_from == 0


async def test_a_long_text_can_be_had_whole(client: httpx.AsyncClient):
    message = await get(client, f"/rollouts/{SOLVED}/messages/3")
    assert HOSTILE in message["content"]
    assert (await client.get(f"/api/rollouts/{SOLVED}/messages/99")).status_code == 404


async def test_pictures_are_served_as_pictures_alone(client: httpx.AsyncClient):
    assert (await client.get("/api/images/none")).status_code == 404


async def test_findings_of_a_run_are_those_of_its_audit(client: httpx.AsyncClient, store: MemoryTraceStore):
    found = await get(client, f"/runs/{RUN}/findings")
    assert found == json.loads(msgspec.json.encode(await audit(store, RUN)))
    assert [one["kind"] for one in found["findings"]] == ["conservation"]
    missing = await client.get("/api/runs/none/findings")
    assert (missing.status_code, missing.json()["detail"][:13]) == (404, "no run 'none'")
