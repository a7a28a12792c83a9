"""The deployment of docker-compose.yml, for real: every service, a worker that is killed, a manager that is rolled."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from envhub.contracts.task import Task
from envhub.feed.client import FeedClient
from envhub.feed.remote_control import RemoteControl
from tests.deployment.compose import Deployment, compose_command, deployed, until

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),  # images are built first
    pytest.mark.skipif(
        os.environ.get("ENVHUB_COMPOSE") != "1", reason="builds images for minutes; ENVHUB_COMPOSE=1 asks for it"
    ),
]
JOB = 100  # groups that deploy/manager.toml asks for
OF_K = 8


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    assert compose_command(), "install docker and its compose"
    with deployed(tmp_path_factory.mktemp("deployment") / "secrets") as made:
        yield made


def test_every_service_does_its_part(deployment: Deployment):
    with deployment.http("DASHBOARD") as stranger, deployment.http("DASHBOARD", "viewer") as viewer:
        assert stranger.get("/api/runs").status_code == 401
        until(lambda: production(viewer)["submitted"] == JOB * OF_K)
        assert "<title>" in viewer.get("/").text
    with deployment.http("PROMETHEUS") as prometheus:
        until(lambda: all_up(prometheus))
        query = {"query": "sum(envhub_rollouts_started_total)"}
        until(lambda: started(prometheus.get("/api/v1/query", params=query)) >= JOB * OF_K)
    manager, gateway = deployment.containers("manager"), deployment.containers("gateway")
    for container, name in ((*manager, "manager"), (*gateway, "gateway")):
        checked = deployment.docker("exec", container, "envhub", "config", "check", f"/etc/envhub/{name}.toml")
        assert "postgresql://envhub:***@postgres/envhub" in checked
    assert len(deployment.containers("worker")) == 2


def test_an_agent_outside_plays_at_the_gateway(deployment: Deployment):
    with deployment.http("GATEWAY", "agent") as gateway:
        body = {"environment": "envhub/arithmetic-v0", "task": 0}
        session = gateway.post("/envhub/v1/sessions", json=body).raise_for_status().json()
        finish = f"/envhub/v1/sessions/{session['rollout_id']}/finish"
        key = {"Authorization": f"Bearer {session['api_key']}"}
        asked = {"model": "policy", "messages": session["messages"]}
        said = gateway.post("/v1/chat/completions", json=asked, headers=key).raise_for_status().json()
        answer = {"answer": said["choices"][0]["message"]["content"]}
        ended = gateway.post(finish, json=answer, headers=key).raise_for_status().json()
        assert ended["status"] == "completed"
    with trainer(deployment, "GATEWAY_FEED") as feed:
        lease = next(feed.groups(credit=1))
        assert [member.rollout_id for member in lease.group.members] == [session["rollout_id"]]
        assert lease.ack()


def test_nothing_is_lost_when_a_worker_is_killed_and_the_manager_is_rolled(deployment: Deployment):
    taken: list[str] = []
    with trainer(deployment, "FEED") as feed:
        groups = feed.groups(credit=8)

        def take(total: int) -> None:
            while len(taken) < total:
                lease = next(groups)
                taken.append(lease.group.group_id)
                lease.ack()  # in vain, where the manager was stopped since: it comes again, and is acked unseen

        take(20)
        more = [feed.submit("envhub/arithmetic-v0", Task.ask(f"What is {n} + 4?", n + 4), k=OF_K) for n in range(60)]
        worker, _ = deployment.containers("worker")
        deployment.docker("kill", worker)
        take(80)
        deployment.compose("stop", "manager")
        assert "--run-id production" in deployment.docker("logs", *deployment.containers("manager"))
        deployment.docker("start", worker)
        deployment.compose("start", "manager")
        until(lambda: deployment.ready("DASHBOARD"))
        take(JOB + len(more))
        with RemoteControl(address(deployment, "FEED"), token=deployment.tokens["operator"]) as control:
            control.drain()
        assert list(groups) == []
    with deployment.http("DASHBOARD", "viewer") as viewer:
        assert production(viewer)["by_state"] == {"acked": (JOB + len(more)) * OF_K}
    assert len(set(taken)) == len(taken) == JOB + len(more)
    assert set(more) <= set(taken)
    verify = 'envhub verify --run production --database "$(cat "$ENVHUB_DATABASE_FILE")"'
    deployment.docker("exec", *deployment.containers("manager"), "sh", "-c", verify)


def production(viewer: httpx.Client) -> dict[str, Any]:
    """The manager's run, as the dashboard shows it."""
    (run,) = [run for run in viewer.get("/api/runs").json() if run["run_id"] == "production"]
    return run


def trainer(deployment: Deployment, service: str) -> FeedClient:
    return FeedClient(address(deployment, service), consumer="trainer", token=deployment.tokens["trainer"])


def address(deployment: Deployment, service: str) -> str:
    return f"127.0.0.1:{deployment.port(service)}"


def all_up(prometheus: httpx.Client) -> bool:
    targets = prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
    return len(targets) == 2 and all(target["health"] == "up" for target in targets)


def started(answer: httpx.Response) -> float:
    """The value of a query that has one, 0 where it has none yet."""
    found = answer.json()["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0
