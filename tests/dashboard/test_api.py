"""The JSON API, asked over HTTP."""

import httpx
import pytest

from envhub.contracts.access import Role
from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import ANSWER, CHILD, FAILED, HOSTILE, LIVE, SEED, SOLVED
from tests.guarding import guard

pytestmark = pytest.mark.anyio


async def test_runs_show_members_by_state_and_their_conservation(client: httpx.AsyncClient):
    [run] = (await client.get("/api/runs")).json()
    assert run["by_state"] == {"scored": 1, "failed": 1, "running": 1}
    assert (run["submitted"], run["conserved"], run["drained"]) == (3, True, False)
    assert run["equation"].startswith("3 submitted = 1 running + 1 scored")
    assert run["seed"] == str(SEED)  # as text: a browser would round the number


async def test_environments_are_each_named_once(client: httpx.AsyncClient):
    assert (await client.get("/api/environments")).json() == ["demo/sums-v0"]
    assert (await client.get("/api/environments", params={"run": "another"})).json() == []


async def test_rollouts_come_newest_first_in_pages_that_a_cursor_joins(client: httpx.AsyncClient):
    first = (await client.get("/api/rollouts", params={"limit": 3})).json()
    assert [one["rollout_id"] for one in first["rollouts"]] == [LIVE, FAILED, CHILD]
    assert first["total"] == 4
    second = (await client.get("/api/rollouts", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [one["rollout_id"] for one in second["rollouts"]] == [SOLVED]
    assert second["next_cursor"] == ""


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"roots_only": "true"}, [LIVE, FAILED, SOLVED]),
        ({"status": "failed"}, [FAILED]),
        ({"reward_min": 0.5}, [SOLVED]),
        ({"reward_max": 0.5}, [CHILD]),
        ({"run": "another"}, []),
        ({"environment": "demo/sums-v0", "status": "truncated"}, [CHILD]),
    ],
)
async def test_filters_narrow_the_list(client: httpx.AsyncClient, filters: dict[str, str], expected: list[str]):
    page = (await client.get("/api/rollouts", params=filters)).json()
    assert [one["rollout_id"] for one in page["rollouts"]] == expected


@pytest.mark.parametrize(
    ("filters", "status", "message"),
    [
        ({"status": "done"}, 422, "'done'"),
        ({"statsu": "failed"}, 422, "statsu"),
        ({"limit": "0"}, 422, "limit"),
        ({"reward_min": "nan"}, 422, "reward_min"),
        ({"reward_min": "1", "reward_max": "0"}, 400, "reward_min 1 is above reward_max 0; swap them"),
        ({"cursor": "nonsense"}, 400, "nonsense"),
    ],
)
async def test_a_bad_filter_is_refused_by_name(
    client: httpx.AsyncClient, filters: dict[str, str], status: int, message: str
):
    response = await client.get("/api/rollouts", params=filters)
    assert response.status_code == status
    assert message in response.json()["detail"]


async def test_a_rollout_shows_its_score_tree_usage_and_logs(client: httpx.AsyncClient):
    rollout = (await client.get(f"/api/rollouts/{SOLVED}")).json()
    assert rollout["summary"]["reward"] == 0.75
    assert rollout["score"]["components"] == {"correct": 1.0, "brevity": -0.25}
    assert rollout["score"]["explanation"] == "five is right"
    assert [one["rollout"]["rollout_id"] for one in rollout["tree"]] == [SOLVED, CHILD]
    assert [(one["depth"], one["critical"]) for one in rollout["tree"]] == [(0, True), (1, True)]
    assert rollout["usage"]["tool_calls"] == 1
    assert rollout["logs"] == [{"at": 10.5, "message": "leased", "fields": {"wait_ms": 4}}]
    assert rollout["seed"] == str(SEED)
    assert rollout["request"]["task"]["answer"] == 5


async def test_a_child_shows_the_tree_of_its_root(client: httpx.AsyncClient):
    rollout = (await client.get(f"/api/rollouts/{CHILD}")).json()
    assert [one["rollout"]["rollout_id"] for one in rollout["tree"]] == [SOLVED, CHILD]


async def test_the_transcript_holds_each_message_once_with_its_turn_and_row(client: httpx.AsyncClient):
    transcript = (await client.get(f"/api/rollouts/{SOLVED}")).json()["transcript"]
    said = [(one["message"]["role"], one["turn"], one["row"], one["sampled"]) for one in transcript]
    assert said == [
        ("user", 0, 0, False),
        ("assistant", 0, 0, True),
        ("tool", 1, 0, False),
        ("assistant", 1, 0, True),
        ("user", 1, 0, False),  # the environment's last word, which no prompt brought
    ]
    assert transcript[1]["message"]["tool_calls"][0]["arguments"] == {"a": 2, "b": 3}
    assert transcript[3]["message"]["content"] == ANSWER.content


async def test_a_rollout_that_failed_before_its_first_turn_shows_its_task_and_whose_fault_it_was(
    client: httpx.AsyncClient,
):
    rollout = (await client.get(f"/api/rollouts/{FAILED}")).json()
    assert rollout["failure"] == {"boundary": "sandbox", "message": "the sandbox died", "retryable": False}
    assert rollout["score"] is None
    assert [one["message"]["content"] for one in rollout["transcript"]] == ["What is 2 + 3?"]
    assert (await client.get(f"/api/rollouts/{FAILED}/rows")).json() == []


async def test_a_running_rollout_shows_what_there_is(client: httpx.AsyncClient):
    rollout = (await client.get(f"/api/rollouts/{LIVE}")).json()
    assert (rollout["summary"]["status"], rollout["usage"]) == (None, None)
    assert len(rollout["transcript"]) == 2


async def test_rows_count_their_tokens(client: httpx.AsyncClient):
    [row] = (await client.get(f"/api/rollouts/{SOLVED}/rows")).json()
    sampled = len("add(2, 3)") + len(ANSWER.content)
    assert (row["turns"], row["parent"], row["sampled"], row["trainable"]) == ([0, 1], None, sampled, sampled)
    assert row["tokens"] == sampled + len("What is 2 + 3?") + len("5")


async def test_tokens_come_by_column_and_spans_tile_the_window(client: httpx.AsyncClient):
    window = (await client.get(f"/api/rollouts/{SOLVED}/rows/0/tokens", params={"offset": 10, "limit": 20})).json()
    assert "".join(window["pieces"]) == "+ 3?add(2, 3)5" + ANSWER.content[:6]
    assert bytes(window["ids"]).decode() == "".join(window["pieces"])
    spans = [(one["start"], one["end"], one["sampled"], one["turn"]) for one in window["spans"]]
    assert spans == [(10, 14, False, 0), (14, 23, True, 0), (23, 24, False, 1), (24, 30, True, 1)]
    assert window["spans"][1]["policy_version"] == 4
    assert window["logprobs"] == [None] * 4 + [-0.7] * 9 + [None] + [-0.7] * 6  # -0.7, not -0.699999988079071


async def test_a_window_past_the_end_is_empty(client: httpx.AsyncClient):
    window = (await client.get(f"/api/rollouts/{SOLVED}/rows/0/tokens", params={"offset": 100_000})).json()
    assert (window["ids"], window["pieces"], window["spans"]) == ([], [], [])
    assert window["offset"] == window["total"]


@pytest.mark.parametrize(
    "path",
    ["rollouts/nobody", "rollouts/nobody/rows", "rollouts/nobody/rows/0/tokens", f"rollouts/{SOLVED}/rows/7/tokens"],
)
async def test_what_the_store_does_not_hold_is_not_found_by_name(client: httpx.AsyncClient, path: str):
    response = await client.get(f"/api/{path}")
    assert response.status_code == 404
    assert response.json()["detail"].startswith(("no rollout", f"rollout '{SOLVED}' has 1 rows"))


async def test_a_path_that_the_api_does_not_have_is_not_the_page(client: httpx.AsyncClient):
    response = await client.get("/api/rollout")
    assert (response.status_code, response.json()["detail"][:18]) == (404, "no '/api/rollout';")


async def test_every_answer_is_described_by_a_typed_schema(client: httpx.AsyncClient):
    api = (await client.get("/api/openapi.json")).json()
    answers = [
        operation["responses"]["200"]["content"] for path in api["paths"].values() for operation in path.values()
    ]
    schemas = [content["application/json"]["schema"] for content in answers if "application/json" in content]
    assert len(schemas) > 25
    assert all("$ref" in str(schema) or schema.get("items") for schema in schemas)


async def test_text_of_a_model_leaves_as_json_that_no_browser_takes_for_a_page(client: httpx.AsyncClient):
    response = await client.get(f"/api/rollouts/{SOLVED}")
    assert HOSTILE in response.json()["transcript"][3]["message"]["content"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in response.headers["content-security-policy"]


async def test_with_a_token_every_call_of_the_api_needs_it(store: MemoryTraceStore):
    transport = httpx.ASGITransport(create_app(store, None, guard=guard({"s3cret": Role.VIEWER})))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in (
            "runs",
            "rollouts",
            f"rollouts/{SOLVED}",
            "events",
            "openapi.json",
            "nothing",
            "rollouts?status=x",
        ):
            refused = await client.get(f"/api/{path}", headers={"Authorization": "Bearer s3cre"})
            assert refused.status_code == 401, path
            assert (await client.get(f"/api/{path}")).status_code == 401, path
        assert (await client.get("/api/runs", headers={"Authorization": "Bearer s3cret"})).status_code == 200
        assert (await client.get("/")).status_code != 401  # the page loads, and asks for the token
