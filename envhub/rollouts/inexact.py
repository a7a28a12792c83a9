"""InexactPolicy: one that takes and gives messages, not tokens, in one rollout."""

from collections.abc import Callable

from envhub.contracts.ids import PolicyId
from envhub.contracts.policy import Action, Policy, PolicyInput
from envhub.contracts.turn import Turn
from envhub.errors import UsageError
from envhub.tokens.gate import Gate
from envhub.tokens.ledger import Ledger


class InexactPolicy:
    """Pauses hold its calls before they begin: one that was cut would have nothing to go on from. What an earlier
    process recorded is given again."""

    def __init__(
        self, inner: Policy, policy_id: PolicyId, ledger: Ledger, gate: Gate, record: Callable[[Turn], None]
    ) -> None:
        self._inner = inner
        self._policy_id = policy_id
        self._ledger = ledger
        self._gate = gate
        self._record = record

    async def act(self, input: PolicyInput) -> Action:
        if input.prompt is not None:
            raise UsageError(f"policy '{self._policy_id}' takes messages, no token ids; use an engine of tokens")
        earlier = self._ledger.claim(self._policy_id, input.messages, [tool.name for tool in input.tools])
        if earlier is not None:
            self._record(earlier)
            return Action(earlier.response, earlier.finish, earlier.index)
        await self._gate.open(self._policy_id)
        return await self._inner.act(input)

    def count(self, input: PolicyInput) -> int:
        return self._inner.count(input)
