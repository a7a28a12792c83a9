"""RolloutContext: the Context of one rollout, or of its judge: same trace, a budget of its own."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeAlias

import anyio

from envhub.contracts.context import Budget, Endpoint
from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, RolloutId, child_rollout_id, derive_seed, ordinal_of
from envhub.contracts.outcome import Outcome
from envhub.contracts.policy import Action, Policy, PolicyCall, PolicyInput
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.sandbox import Sandbox, SandboxSpec, Snapshot
from envhub.contracts.turn import Finish, Sampling, Turn
from envhub.errors import Boundary, Fault, Truncated, UnknownName, UsageError
from envhub.rollouts.inexact import InexactPolicy
from envhub.rollouts.live import LiveRollout, left_behind
from envhub.rollouts.platform import MessagePolicy, ServedPolicy
from envhub.rollouts.purse import Purse
from envhub.rollouts.recorder import check_recordable
from envhub.rollouts.replay import EarlierChild, Records
from envhub.tokens.policy import TokenPolicy

# With its parent, the purse that it is on, what another process recorded of it, and what its sandboxes start from.
RunChild: TypeAlias = Callable[
    [RolloutStarted, LiveRollout, Purse, Records | None, Snapshot | None], Awaitable[Outcome]
]


class RolloutContext:
    """What agent, tools and environment of a rollout may ask; its judge asks a second one of the same rollout."""

    def __init__(self, live: LiveRollout, run_child: RunChild, *, for_judge: bool = False) -> None:
        self._live = live
        self._run_child = run_child
        self._for_judge = for_judge
        self._purse = live.judge_purse() if for_judge else live.purse
        self._closed = False
        self._awaited: dict[anyio.CancelScope, anyio.Event] = {}  # batches of children, and their end

    @property
    def rollout_id(self) -> RolloutId:
        return self._live.id

    @property
    def request(self) -> RolloutRequest:
        return self._live.start.request

    @property
    def resumed(self) -> bool:
        return self._live.replay is not None

    @property
    def budget(self) -> Budget:
        purse = self._purse
        return Budget(
            purse.turns_left,
            purse.budget_tokens(),
            self._live.clock.left,
            purse.steps_left(),
            purse.critical_steps_left(),
            purse.tool_calls_left(),
        )

    def policy(self, policy_id: PolicyId | None = None) -> Policy:
        chosen = policy_id or self.request.policy_id
        served = self._live.platform.policies.get(chosen)
        if served is None:
            raise UnknownName.of("policy", chosen, self._live.platform.policies)
        if isinstance(served, MessagePolicy):
            return BudgetedPolicy(self._message_policy(chosen, served), self)
        return BudgetedPolicy(self._token_policy(chosen, served), self)

    def _token_policy(self, policy_id: PolicyId, served: ServedPolicy) -> Policy:
        own = policy_id == self.request.policy_id and not self._for_judge
        return TokenPolicy(
            served.model,
            served.renderer,
            self._live.ledger,
            policy_id=policy_id,
            rollout_id=self.rollout_id,
            trainable=self.request.trainable and own and not served.frozen,
            sampling=self.request.sampling,
            seed=self._live.start.seed,
            record=self._record_turn,
            gate=self._live.gate,
        )

    def _message_policy(self, policy_id: PolicyId, served: MessagePolicy) -> Policy:
        live, ledger = self._live, self._live.ledger
        call = PolicyCall(
            self.rollout_id, policy_id, self.request.sampling, live.start.seed, ledger.next_index, self._record_turn
        )
        return InexactPolicy(served.factory.policy(call), policy_id, ledger, live.gate, self._record_turn)

    async def rollout(self, request: RolloutRequest, *, files: Snapshot | None = None) -> Outcome:
        return (await self.rollouts([request], files=files))[0]

    async def rollouts(
        self, requests: Sequence[RolloutRequest], *, files: Snapshot | None = None
    ) -> tuple[Outcome, ...]:
        self._admit(len(requests))
        alive = len(requests)
        outcomes: dict[RolloutId, Outcome] = {}

        async def run(child: RolloutStarted, earlier: EarlierChild | None) -> None:
            nonlocal alive
            outcomes[child.rollout_id] = await self._outcome_of(child, earlier, files)
            alive -= 1
            self._live.tree.live -= 1
            self._live.sandboxes.heartbeat()

        try:
            children = [self._child(request) for request in requests]
            tasks = anyio.create_task_group()
            with self._waiting_for(tasks.cancel_scope):
                async with self._live.slot.lend(), tasks:
                    for child, earlier in children:
                        tasks.start_soon(run, child, earlier)
        finally:
            self._live.tree.live -= alive
        self._check_open()
        return tuple(outcomes[child.rollout_id] for child, _ in children)

    async def sandbox(self, spec: SandboxSpec = SandboxSpec(), *, files: Snapshot | None = None) -> Sandbox:
        self._check_open()
        return await self._live.sandbox(spec, files)

    def fork(self, spec: SandboxSpec | None = None) -> AbstractAsyncContextManager[Sandbox]:
        self._check_open()
        return self._live.sandboxes.fork(spec)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        self._check_open()
        gateway = self._live.platform.endpoints
        if gateway is None:
            raise Fault("this run has no gateway; start it with `envhub serve`", Boundary.GATEWAY)
        live = self._live
        async with gateway.open(live.id, self.policy(), self.request.sampling, live.record_call) as endpoint:
            yield endpoint

    def log(self, message: str, **fields: object) -> None:
        self._check_open()
        self._live.log(message, fields)

    def reserve(self, max_tokens: int) -> int:
        """Takes one turn and up to `max_tokens` from the budget; returns the tokens taken.

        Raises:
            Truncated: "turns" or "budget", where none is left.
        """
        self._check_open()
        return self._purse.reserve(max_tokens)

    @property
    def may_act(self) -> bool:
        """Whether the rollout has its slot, which it lends while it waits."""
        return self._live.slot.held

    async def take_back_slot(self) -> None:
        """Waits until the rollout may act."""
        with self._live.clock.stopped():
            await self._live.slot.take_back()

    def refund(self, tokens: int) -> None:
        """Gives back what was reserved and not sampled."""
        self._purse.refund(tokens)

    async def close(self) -> None:
        """Ends what was started with it and still runs; from now on it refuses everything.

        Raises:
            Fault: children ran that nobody waited for.
        """
        self._closed = True
        if not self._awaited:
            return
        with anyio.CancelScope(shield=True):  # each child ends within limits of its own
            for scope, ended in list(self._awaited.items()):
                scope.cancel()
                await ended.wait()
        raise Fault("rollouts that it had started ran on when it ended; await ctx.rollout(...)", self._blamed)

    @property
    def _blamed(self) -> Boundary:
        return Boundary.JUDGE if self._for_judge else Boundary.AGENT

    def _check_open(self) -> None:
        if self._closed:
            raise left_behind()

    def _record_turn(self, turn: Turn) -> None:
        self._check_open()
        self._live.record_turn(turn)

    @contextmanager
    def _waiting_for(self, children: anyio.CancelScope) -> Iterator[None]:
        ended = self._awaited[children] = anyio.Event()
        try:
            with self._live.awaiting():
                yield
        finally:
            del self._awaited[children]
            ended.set()

    def _admit(self, count: int) -> None:
        self._check_open()
        tree = self._live.tree
        if tree.live + count > tree.max_live:
            raise UsageError(
                f"{count} more rollouts would make {tree.live + count} alive in this tree; its limit is "
                f"{tree.max_live} (Limits.max_live of the root): start fewer at once"
            )
        tree.live += count

    def _child(self, request: RolloutRequest) -> tuple[RolloutStarted, EarlierChild | None]:
        """A child to run, or one that another process started with the same request."""
        parent = self._live.start
        if self._for_judge:
            request = replace(request, trainable=False)
        id = parent.rollout_id
        plain = replace(parent, group_judged=False, judges=(), for_judge=self._for_judge)
        child = replace(plain, at=time.time(), parent=id, request=request)
        check_recordable(child)
        earlier = self._live.replay.child(child) if self._live.replay else None
        if earlier is not None:
            return earlier.start, earlier
        ordinal = self._live.next_child()
        own_seed = request.task.seed
        environment_seed = derive_seed(parent.environment_seed, "child", ordinal) if own_seed is None else own_seed
        id, seed = child_rollout_id(parent.rollout_id, ordinal), derive_seed(parent.seed, "child", ordinal)
        return replace(child, rollout_id=id, seed=seed, environment_seed=environment_seed), None

    async def _outcome_of(self, child: RolloutStarted, earlier: EarlierChild | None, files: Snapshot | None) -> Outcome:
        outcome = self._live.take_child(earlier, self._purse) if earlier else None
        if outcome is None:
            records = earlier.found if earlier and isinstance(earlier.found, Records) else None
            outcome = await self._run_child(child, self._live, self._purse, records, files)
            self._live.children[ordinal_of(child.rollout_id)] = outcome
        return outcome


class BudgetedPolicy:
    """A policy whose calls draw on the budget of a context."""

    def __init__(self, inner: Policy, context: RolloutContext) -> None:
        self._inner = inner
        self._context = context

    async def act(self, input: PolicyInput) -> Action:
        sampling = input.sampling or self._context.request.sampling
        reserved = self._context.reserve(sampling.max_tokens)
        if not self._context.may_act:
            await self._context.take_back_slot()
        sampled = 0
        try:
            action = await self._inner.act(_within(input, sampling, reserved))
            sampled = action.output_tokens
        finally:
            self._context.refund(reserved - sampled)
        if action.finish is Finish.LENGTH and reserved < sampling.max_tokens:
            raise Truncated("budget")  # which cut this turn, not its own length
        return action

    def count(self, input: PolicyInput) -> int:
        return self._inner.count(input)


def _within(input: PolicyInput, sampling: Sampling, max_tokens: int) -> PolicyInput:
    """The input, to be sampled with at most `max_tokens`."""
    if max_tokens == sampling.max_tokens:
        return input
    return replace(input, sampling=replace(sampling, max_tokens=max_tokens))
