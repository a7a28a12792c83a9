"""A program outside opens a rollout, acts in it and finishes it."""

from functools import partial

import anyio
import pytest
from httpx import ASGITransport, AsyncClient
from openai import AsyncOpenAI

from envhub.agents.external import ExternalAgent
from envhub.contracts.access import Access, Rates, Role, Token
from envhub.contracts.context import Budget
from envhub.contracts.environment import Observation, StepResult
from envhub.contracts.guard import Guard
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.errors import Boundary, Fault, Truncated
from envhub.gateway.app import create_app
from tests.guarding import acts_into, guard

pytestmark = pytest.mark.anyio

OPEN = "/envhub/v1/sessions"
SUM = {"environment": "demo/sums-v0", "task": 0}


async def test_a_program_opens_acts_and_finishes(gateway):
    answer = await gateway.http.post(OPEN, json=SUM)
    opened = answer.json()
    assert answer.status_code == 201
    assert opened["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    async with AsyncOpenAI(base_url=opened["base_url"], api_key=opened["api_key"]) as client:
        said = await client.chat.completions.create(model="policy", messages=opened["messages"])
        assert said.choices[0].message.content == "2 + 2?"
    finish = f"{OPEN}/{opened['rollout_id']}/finish"
    auth = {"authorization": f"Bearer {opened['api_key']}"}
    ended = await gateway.http.post(finish, json={"answer": "4"}, headers=auth)
    assert ended.json() == {
        "rollout_id": opened["rollout_id"],
        "status": "completed",
        "reward": 1.0,
        "components": {"exact": 1.0},
        "failure": None,
    }
    assert (await gateway.http.post(finish, json={"answer": "5"}, headers=auth)).status_code == 401


async def test_a_second_answer_is_refused(gateway):
    async with anyio.create_task_group() as tasks:
        opened = (await gateway.http.post(OPEN, json=SUM)).json()
        auth = {"authorization": f"Bearer {opened['api_key']}"}
        statuses = []

        async def finish():
            answer = await gateway.http.post(f"{OPEN}/run-0-0-0/finish", json={"answer": "4"}, headers=auth)
            statuses.append(answer.status_code)

        tasks.start_soon(finish)
        tasks.start_soon(finish)
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 409}


async def test_finish_wants_the_rollouts_own_key_and_an_answer(gateway):
    opened = (await gateway.http.post(OPEN, json=SUM)).json()
    auth = {"authorization": f"Bearer {opened['api_key']}"}
    finish = f"{OPEN}/{opened['rollout_id']}/finish"
    assert (await gateway.http.post(finish, json={"answer": "4"})).status_code == 401
    assert (await gateway.http.post(finish, json={"answer": "4"}, headers=gateway.auth)).status_code == 403
    wrong = await gateway.http.post(finish, json={"answer": 4}, headers=auth)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_json")
    own = await gateway.http.post(f"{OPEN}/run-1-0-0/finish", json={"answer": "4"}, headers=gateway.auth)
    assert (own.status_code, own.json()["error"]["code"]) == (409, "no_answer_awaited")


async def test_an_unknown_environment_is_refused_with_what_is_known(gateway):
    answer = await gateway.http.post(OPEN, json={"environment": "demo/sum-v0", "task": "a"})
    assert answer.status_code == 400
    assert "demo/sums-v0" in answer.json()["error"]["message"]


async def test_a_rollout_that_fails_before_it_asks_is_told(gateway):
    gateway.run.asks = False
    answer = await gateway.http.post(OPEN, json=SUM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "rollout_failed")


async def test_a_rollout_that_does_not_start_in_time_is_cancelled(gateway, monkeypatch):
    monkeypatch.setattr("envhub.gateway.control.OPEN_S", 0.05)

    async def never(environment, task):
        return gateway.run

    app = create_app(gateway.sessions, open_rollout=never)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.post(OPEN, json=SUM)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert gateway.run.cancelled.is_set()


async def test_waiting_for_room_in_the_run_has_the_same_deadline(gateway, monkeypatch):
    monkeypatch.setattr("envhub.gateway.control.OPEN_S", 0.05)

    async def full(environment, task):
        await anyio.sleep_forever()

    app = create_app(gateway.sessions, open_rollout=full)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as http:
        with anyio.fail_after(10):
            answer = await http.post(OPEN, json=SUM)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_client_that_leaves_before_its_rollout_starts_has_it_cancelled(gateway, switch):
    opened = anyio.Event()

    async def never(environment, task):
        opened.set()
        return gateway.run

    switch.app = create_app(gateway.sessions, open_rollout=never)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(gateway.http.post, OPEN, json=SUM))
        await opened.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(10):
        await gateway.run.cancelled.wait()


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("gateway.example:8601", "http://gateway.example:8601/v1"),
        ("[2001:db8::7]:8601", "http://[2001:db8::7]:8601/v1"),
        ("user@evil/path?", None),
        ("", None),
    ],
)
async def test_the_base_url_is_the_one_that_the_program_used(gateway, host, base_url):
    app = create_app(gateway.sessions, guard=guard({"t": Role.AGENT}), open_rollout=gateway.run.open)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as http:
        answer = await http.post(OPEN, json=SUM, headers={"authorization": "Bearer t", "host": host})
    assert answer.json()["base_url"] == (base_url or gateway.endpoint.url)


@pytest.mark.parametrize(
    ("client", "host", "headers", "status"),
    [
        ("127.0.0.1", "127.0.0.1:80", {}, 400),
        ("::1", "localhost", {}, 400),
        ("10.0.0.7", "127.0.0.1", {}, 403),
        ("127.0.0.1", "evil.example", {}, 403),
        ("127.0.0.1", "127.0.0.1", {"origin": "http://evil.example"}, 403),
    ],
)
async def test_without_a_token_only_programs_of_this_machine_open_rollouts(gateway, client, host, headers, status):
    app = create_app(gateway.sessions, open_rollout=gateway.run.open)
    async with AsyncClient(transport=ASGITransport(app, client=(client, 1)), base_url="http://x") as http:
        answer = await http.post(OPEN, json={}, headers={"host": host, **headers})
    assert answer.status_code == status


@pytest.mark.parametrize(("token", "status"), [("right", 400), ("wrong", 401), ("", 401)])
async def test_a_token_opens_rollouts_from_everywhere(gateway, token, status):
    app = create_app(gateway.sessions, guard=guard({"right": Role.AGENT}), open_rollout=gateway.run.open)
    async with AsyncClient(transport=ASGITransport(app, client=("10.0.0.7", 1)), base_url="http://x") as http:
        answer = await http.post(OPEN, json={}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == status


async def test_sessions_are_opened_at_their_rate_and_who_is_turned_away_is_recorded(gateway):
    kept = []
    door = Guard(Access((Token("acts", Role.AGENT), Token("looks", Role.VIEWER)), rates=Rates(session=0.5)))
    app = create_app(gateway.sessions, guard=door, acts=acts_into(kept, door), open_rollout=gateway.run.open)
    async with AsyncClient(transport=ASGITransport(app, client=("10.0.0.7", 1)), base_url="http://x") as http:

        async def ask(token: str):
            return await http.post(OPEN, json={}, headers={"authorization": f"Bearer {token}"})

        statuses = [(await ask("acts")).status_code for _ in range(11)]
        refused = [await ask(token) for token in ("acts", "looks", "guessed")]
    assert statuses == [400] * 10 + [429]
    assert [answer.status_code for answer in refused] == [429, 403, 401]
    assert int(refused[0].headers["retry-after"]) >= 1
    assert [(act.operator, act.via, act.action) for act in kept[-2:]] == [
        ("viewer", "gateway", "open"),
        ("10.0.0.7", "gateway", "open"),
    ]


async def test_a_key_ends_no_rollout_but_its_own_and_a_token_is_no_key(gateway):
    app = create_app(gateway.sessions, guard=guard({"acts": Role.OPERATOR}), open_rollout=gateway.run.open)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as http:
        opened = (await http.post(OPEN, json=SUM, headers={"authorization": "Bearer acts"})).json()
        finish = f"{OPEN}/another-0-0-0/finish"
        by_key = {"authorization": f"Bearer {opened['api_key']}"}
        assert (await http.post(finish, json={"answer": "2"}, headers=by_key)).status_code == 403
        own = f"{OPEN}/{opened['rollout_id']}/finish"
        assert (await http.post(own, json={"answer": "2"}, headers={"authorization": "Bearer acts"})).status_code == 401
        assert (await http.get("/v1/models", headers={"authorization": "Bearer acts"})).status_code == 401
        assert (await http.get("/v1/models", headers=by_key)).status_code == 200
        assert (await http.post(OPEN, json=SUM, headers=by_key)).status_code == 401


async def test_without_an_opener_there_is_no_such_route(gateway):
    async with AsyncClient(transport=ASGITransport(create_app(gateway.sessions)), base_url="http://localhost") as http:
        assert (await http.post(OPEN, json=SUM)).status_code == 404


class OneStep:
    """An environment that notes its one action."""

    tools = ()

    def __init__(self, result):
        self.result = result
        self.actions = []

    async def step(self, action):
        self.actions.append(action)
        return self.result


class AskedContext:
    """A context whose endpoint is answered at once."""

    url = key = ""
    budget = Budget(turns=1, tokens=1, seconds=60.0)

    def endpoint(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        return None

    async def ask(self, messages):
        return f"{messages[0].content} = 4"


async def test_the_external_agents_answer_is_its_one_action():
    environment = OneStep(StepResult(terminated=True))
    await ExternalAgent().run(environment, Observation((Message.user("2 + 2"),)), AskedContext())
    assert environment.actions == [Action(Message.assistant("2 + 2 = 4"))]


async def test_the_external_agent_tells_of_a_truncated_episode():
    environment = OneStep(StepResult(truncated=True))
    with pytest.raises(Truncated, match="environment"):
        await ExternalAgent().run(environment, Observation((Message.user("2 + 2"),)), AskedContext())


class UnansweredContext(AskedContext):
    """A context whose program outside is gone."""

    budget = Budget(turns=1, tokens=1, seconds=0.05)

    async def ask(self, messages):
        await anyio.sleep_forever()


async def test_a_program_that_never_answers_is_a_fault_before_the_rollouts_deadline():
    environment = OneStep(StepResult(terminated=True))
    with anyio.fail_after(10), pytest.raises(Fault, match=r"no answer from outside within 0\.045 s") as caught:
        await ExternalAgent().run(environment, Observation((Message.user("2 + 2"),)), UnansweredContext())
    assert caught.value.boundary is Boundary.GATEWAY
    assert environment.actions == []
