"""RolloutContext: the Context of one rollout, or of its judge: same trace, a budget of its own."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

import anyio

from envhub.contracts.context import Budget, Endpoint
from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, RolloutId, child_rollout_id, derive_seed
from envhub.contracts.outcome import Outcome
from envhub.contracts.policy import Action, Policy, PolicyInput
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.sandbox import Sandbox, SandboxSpec
from envhub.contracts.turn import Finish
from envhub.errors import Boundary, Fault, Truncated, UnknownName, UsageError
from envhub.rollouts.live import LiveRollout
from envhub.tokens.policy import TokenPolicy

RunChild: TypeAlias = Callable[[RolloutStarted, LiveRollout], Awaitable[Outcome]]  # the second is its parent


class RolloutContext:
    """What agent, tools and environment of a rollout may ask; its judge asks a second one of the same rollout."""

    def __init__(self, live: LiveRollout, run_child: RunChild, *, for_judge: bool = False) -> None:
        self._live = live
        self._run_child = run_child
        self._for_judge = for_judge
        limits = self.request.limits
        self._turns_left = limits.max_turns
        self._tokens_left = limits.max_tokens
        self._ends_at = anyio.current_time() + limits.deadline_s

    @property
    def rollout_id(self) -> RolloutId:
        return self._live.id

    @property
    def request(self) -> RolloutRequest:
        return self._live.start.request

    @property
    def budget(self) -> Budget:
        return Budget(self._turns_left, self._tokens_left, max(0.0, self._ends_at - anyio.current_time()))

    def policy(self, policy_id: PolicyId | None = None) -> Policy:
        chosen = policy_id or self.request.policy_id
        served = self._live.platform.policies.get(chosen)
        if served is None:
            raise UnknownName.of("policy", chosen, self._live.platform.policies)
        recorded = TokenPolicy(
            served.model,
            served.renderer,
            self._live.ledger,
            policy_id=chosen,
            rollout_id=self.rollout_id,
            trainable=self.request.trainable and chosen == self.request.policy_id and not self._for_judge,
            sampling=self.request.sampling,
            seed=self._live.start.seed,
            record=self._live.record_turn,
        )
        return BudgetedPolicy(recorded, self)

    async def rollout(self, request: RolloutRequest) -> Outcome:
        return (await self.rollouts([request]))[0]

    async def rollouts(self, requests: Sequence[RolloutRequest]) -> tuple[Outcome, ...]:
        children = [self._child(request) for request in requests]
        self._admit(len(children))
        outcomes: dict[int, Outcome] = {}

        async def run(ordinal: int, child: RolloutStarted) -> None:
            outcomes[ordinal] = self._live.children[ordinal] = await self._run_child(child, self._live)

        try:
            async with self._live.slot.lend(), anyio.create_task_group() as tasks:
                for ordinal, child in children:
                    tasks.start_soon(run, ordinal, child)
        finally:
            self._live.tree.live -= len(children)
        return tuple(outcomes[ordinal] for ordinal, _ in children)

    async def sandbox(self, spec: SandboxSpec = SandboxSpec()) -> Sandbox:
        return await self._live.sandbox(spec)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        gateway = self._live.platform.endpoints
        if gateway is None:
            raise Fault("this run has no gateway; start it with `envhub serve`", Boundary.GATEWAY)
        async with gateway.open(self.rollout_id, self.policy(), self.request.sampling) as endpoint:
            yield endpoint

    def log(self, message: str, **fields: object) -> None:
        self._live.log(message, fields)

    def spend_turn(self) -> int:
        """Takes one turn from the budget and returns how many tokens it may sample.

        Raises:
            Truncated: "turns" or "budget", where none is left.
        """
        if self._turns_left < 1:
            raise Truncated("turns")
        if self._tokens_left < 1:
            raise Truncated("budget")
        self._turns_left -= 1
        return self._tokens_left

    def spend_tokens(self, count: int) -> None:
        self._tokens_left -= count

    def _admit(self, count: int) -> None:
        tree = self._live.tree
        if tree.live + count > tree.max_live:
            raise UsageError(
                f"{count} more rollouts would make {tree.live + count} alive in this tree; its limit is "
                f"{tree.max_live} (Limits.max_live of the root): start fewer at once"
            )
        tree.live += count

    def _child(self, request: RolloutRequest) -> tuple[int, RolloutStarted]:
        ordinal = self._live.next_child()
        parent = self._live.start
        id = child_rollout_id(parent.rollout_id, ordinal)
        return ordinal, replace(
            parent,
            at=time.time(),
            rollout_id=id,
            parent=parent.rollout_id,
            request=request,
            seed=derive_seed(parent.seed, "child", ordinal),
            environment_seed=(
                derive_seed(parent.environment_seed, "child", ordinal)
                if request.task.seed is None
                else request.task.seed
            ),
        )


class BudgetedPolicy:
    """A policy whose calls draw on the budget of a context."""

    def __init__(self, inner: TokenPolicy, context: RolloutContext) -> None:
        self._inner = inner
        self._context = context

    async def act(self, input: PolicyInput) -> Action:
        tokens_left = self._context.spend_turn()
        sampling = input.sampling or self._context.request.sampling
        within = replace(sampling, max_tokens=min(sampling.max_tokens, tokens_left))
        action = await self._inner.act(replace(input, sampling=within))
        self._context.spend_tokens(action.output_tokens)
        if action.finish is Finish.LENGTH and within.max_tokens < sampling.max_tokens:
            raise Truncated("budget")  # which cut this turn, not its own length
        return action
