"""A gateway of a run's own, on loopback: it listens from the moment a rollout wants an endpoint."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup, TaskStatus

from envhub.contracts.context import Endpoint
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Policy
from envhub.contracts.turn import Sampling
from envhub.errors import Boundary, Fault
from envhub.gateway.app import create_app
from envhub.gateway.call_rules import CallRules
from envhub.gateway.desk import Desk
from envhub.gateway.kept_calls import RecordCall
from envhub.gateway.sessions import Sessions
from envhub.http_server import listen, serve


class ClosedDesk(Desk):
    """Of a gateway that only programs know which the run itself has started."""

    async def ask(self, rollout_id: RolloutId, endpoint: Endpoint, messages: Sequence[Message]) -> str:
        raise Fault(
            "this run has no gateway for programs outside; start it with `envhub serve`",
            Boundary.GATEWAY,
        )


class GatewayOnDemand:
    """Endpoints of a run without `envhub serve`. Open it with `open_on_demand`."""

    def __init__(self, tasks: TaskGroup, rules: CallRules) -> None:
        self._tasks = tasks
        self._rules = rules
        self._starting = anyio.Lock()
        self._sessions: Sessions | None = None

    @asynccontextmanager
    async def open(
        self, rollout_id: RolloutId, policy: Policy, sampling: Sampling, record: RecordCall
    ) -> AsyncIterator[Endpoint]:
        """See rollouts.platform.Endpoints."""
        async with self._starting:
            self._sessions = self._sessions or await self._tasks.start(_listen, self._rules)
        async with self._sessions.open(rollout_id, policy, sampling, record) as endpoint:
            yield endpoint


@asynccontextmanager
async def open_on_demand(rules: CallRules) -> AsyncIterator[GatewayOnDemand]:
    """Endpoints while the block runs; it must outlive the rollouts that use them."""
    async with anyio.create_task_group() as tasks:
        yield GatewayOnDemand(tasks, rules)
        tasks.cancel_scope.cancel()


async def _listen(rules: CallRules, *, task_status: TaskStatus[Sessions]) -> None:
    with listen() as listener:
        sessions = Sessions(listener.url, desk=ClosedDesk(), rules=rules)
        async with serve(create_app(sessions), listener):
            task_status.started(sessions)
            await anyio.sleep_forever()
