"""Steering a run from the dashboard: who may, what is confirmed, and that it is recorded."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from envhub.contracts.access import Role
from envhub.contracts.delivery import Control, RunLimits
from envhub.contracts.events import OperatorActed
from envhub.contracts.ids import GroupId
from envhub.contracts.pause import PauseMode, Scope
from envhub.dashboard.api import create_app
from envhub.dashboard.live_run import LiveRun
from envhub.errors import UsageError
from envhub.monitor.activity import Activity
from envhub.monitor.acts import Acts
from envhub.monitor.cpu_profile import CpuProfiler, read_cpu_profile
from envhub.monitor.metrics import Metrics
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import GROUP, RUN
from tests.guarding import guard
from tests.monitor.test_metrics import VITALS

pytestmark = pytest.mark.anyio


class FakeControl(Control):
    """Notes what it is asked; refuses to resume."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def pause(self, scope: Scope = Scope(), mode: PauseMode = PauseMode.CUT) -> None:
        self.asked.append((scope, mode))

    async def resume(self, scope: Scope = Scope(), *, pinned: bool = False) -> None:
        raise UsageError("that very scope is not paused")

    async def drain(self) -> None:
        self.asked.append("drain")

    async def limit(self, limits: RunLimits) -> None:
        self.asked.append(limits)

    async def cancel(self, group_id: GroupId) -> None:
        self.asked.append(group_id)

    async def abort(self, scope: Scope) -> None:
        self.asked.append(scope)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def operator(store: MemoryTraceStore, control: FakeControl, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async def record(event: OperatorActed) -> None:
        await store.append([event])

    gate = guard({"0perator": Role.OPERATOR, "v1ewer": Role.VIEWER, "tra1ner": Role.TRAINER})
    activity = Activity()
    live = LiveRun(
        RUN,
        control,
        Acts(RUN, record, gate),
        lambda: VITALS,
        activity,
        Metrics(lambda: VITALS, activity),
        CpuProfiler(RUN, tmp_path / "p"),
    )
    app = create_app(store, None, guard=gate, live=live)
    headers = {"Authorization": "Bearer 0perator"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://box.example", headers=headers) as client:
        yield client


VIEWER = {"Authorization": "Bearer v1ewer"}


async def order(client: httpx.AsyncClient, action: str, **more: object) -> httpx.Response:
    return await client.post(f"/api/runs/{RUN}/{action}", json={"confirm": RUN, **more})


async def test_an_operator_pauses_limits_drains_cancels_and_aborts(operator: httpx.AsyncClient, control: FakeControl):
    assert (await order(operator, "pause", mode="wait", scope={"policy_id": "policy"})).json() == {"done": "pause"}
    assert (await order(operator, "limit", max_running=8)).status_code == 200
    assert (await order(operator, "drain")).status_code == 200
    assert (await order(operator, "cancel", group_id=GROUP)).status_code == 200
    assert (await order(operator, "abort", scope={"rollout_id": "x"})).status_code == 200
    assert control.asked == [
        (Scope(policy_id="policy"), PauseMode.WAIT),
        RunLimits(max_running=8),
        "drain",
        GROUP,
        Scope(rollout_id="x"),
    ]


async def test_every_act_is_recorded_the_refused_ones_too(operator: httpx.AsyncClient, control: FakeControl):
    await order(operator, "pause", mode="wait")
    refused = await order(operator, "resume", pinned=True)
    assert (refused.status_code, refused.json()["detail"]) == (409, "that very scope is not paused")
    audit = (await operator.get(f"/api/runs/{RUN}/audit", headers=VIEWER)).json()
    assert [(act["action"], act["detail"], act["refused"]) for act in audit] == [
        ("resume", {"pinned": True}, "that very scope is not paused"),
        ("pause", {"mode": "wait"}, ""),
    ]


async def test_an_act_without_its_confirmation_is_not_done(operator: httpx.AsyncClient, control: FakeControl):
    response = await operator.post(f"/api/runs/{RUN}/drain", json={"confirm": "yes"})
    assert (response.status_code, response.json()["detail"]) == (422, "confirm is 'yes'; repeat the run's id, 'demo'")
    assert (await operator.post(f"/api/runs/{RUN}/drain", json={})).status_code == 422
    assert control.asked == []


async def test_a_run_of_another_process_can_not_be_steered(operator: httpx.AsyncClient):
    response = await operator.post("/api/runs/other/drain", json={"confirm": "other"})
    assert (response.status_code, "does not play run 'other'" in response.json()["detail"]) == (409, True)


async def test_a_profile_is_taken_while_the_run_goes_on(operator: httpx.AsyncClient, tmp_path: Path):
    assert (await order(operator, "profile", seconds=0.05)).json() == {"done": "profile"}
    taken = read_cpu_profile(tmp_path / "p")
    assert taken is not None
    assert taken.run_id == RUN
    assert (await order(operator, "profile", seconds=0)).status_code == 422


async def test_a_viewer_looks_and_does_not_steer(operator: httpx.AsyncClient, control: FakeControl):
    assert (await operator.get("/api/session", headers=VIEWER)).json()["role"] == "viewer"
    assert (await operator.get("/api/session")).json() == {"role": "operator", "live_run": RUN, "decoder": False}
    response = await operator.post(f"/api/runs/{RUN}/drain", json={"confirm": RUN}, headers=VIEWER)
    assert (response.status_code, response.json()["detail"][:28]) == (403, "this token is of the role vi")
    assert control.asked == []


async def test_a_page_of_another_origin_does_not_steer(operator: httpx.AsyncClient, control: FakeControl):
    body = {"confirm": RUN}
    refused = await operator.post(f"/api/runs/{RUN}/drain", json=body, headers={"Origin": "http://evil.example"})
    assert refused.status_code == 403
    own = await operator.post(f"/api/runs/{RUN}/drain", json=body, headers={"Origin": "http://box.example"})
    assert own.status_code == 200


async def test_metrics_are_served_to_who_may_look(operator: httpx.AsyncClient):
    response = await operator.get("/metrics", headers=VIEWER)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "envhub_store_backlog_events 7.0" in response.text
    assert (await operator.get("/metrics", headers={"Authorization": "Bearer nobody"})).status_code == 401


async def test_the_overview_of_the_live_run_has_its_vitals(operator: httpx.AsyncClient):
    live = (await operator.get("/api/overview", headers=VIEWER)).json()["live"]
    assert live["slots"] == {"held": 3, "waiting": 2, "limit": 64}
    assert live["loop_lag"]["worst"]["culprit"] == "tool 'x'"
    assert live["feed"] == {"ready": 4, "leased": 1, "waiting": {"trainer": 2}}


async def test_who_may_not_steer_is_recorded_too(operator: httpx.AsyncClient):
    for headers in ({"Authorization": "Bearer guessed"}, VIEWER, {"Origin": "http://evil.example"}):
        await operator.post(f"/api/runs/{RUN}/drain", json={"confirm": RUN}, headers=headers)
    await operator.post(f"/api/runs/{RUN}/drain", json={"confirm": "another"})
    audit = (await operator.get(f"/api/runs/{RUN}/audit")).json()
    assert [(act["action"], act["operator"], act["role"], act["via"], act["address"]) for act in audit] == [
        ("drain", "operator", "operator", "dashboard", "127.0.0.1"),
        ("drain", "operator", "operator", "dashboard", "127.0.0.1"),
        ("drain", "viewer", "viewer", "dashboard", "127.0.0.1"),
        ("drain", "127.0.0.1", "", "dashboard", "127.0.0.1"),
    ]
    assert [act["refused"][:17] for act in audit] == [
        *("confirm is 'anoth", "a page of 'http:/", "this token is of ", "wrong or missing ")
    ]
    assert "guessed" not in str(audit)


async def test_strangers_cannot_fill_the_log(operator: httpx.AsyncClient, store: MemoryTraceStore):
    for number in range(100):
        await operator.post(f"/api/runs/{RUN}/drain", headers={"Authorization": f"Bearer guess-{number}"})
    acts = [event for event in await store.run_events(RUN) if isinstance(event, OperatorActed)]
    assert 1 <= len(acts) <= 20


async def test_acts_come_at_their_rate(operator: httpx.AsyncClient):
    answers = [await order(operator, "limit", max_running=8) for _ in range(130)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert "more often than the rate of control" in refused[0].json()["detail"]


async def test_a_trainers_token_looks_and_does_not_steer(operator: httpx.AsyncClient, control: FakeControl):
    headers = {"Authorization": "Bearer tra1ner"}
    assert (await operator.get("/api/rollouts", headers=headers)).status_code == 200
    refused = await operator.post(f"/api/runs/{RUN}/drain", json={"confirm": RUN}, headers=headers)
    assert refused.status_code == 403
    assert control.asked == []
