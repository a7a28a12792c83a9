"""CallRules: what of its sampling an agent decides, whose calls train, and whether calls are kept as they came."""

from dataclasses import dataclass, replace

from envhub.contracts.turn import TRAINING_KINDS, CallKind, Sampling
from envhub.errors import UsageError

AGENT_MAY_SET = ("temperature", "max_tokens", "seed")
SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class CallRules:
    """Of all sessions of a listener. What an agent asks is recorded in any case, and so is what was enforced.

    Raises:
        UsageError: an agent can't be let set that.
    """

    agent_sets: frozenset[str] = frozenset()  # of AGENT_MAY_SET; the others are the rollout's
    trains: frozenset[CallKind] = TRAINING_KINDS
    keep_bodies: bool = False  # calls are recorded as they went over the wire: each repeats its conversation

    def __post_init__(self) -> None:
        for name in sorted(self.agent_sets.difference(AGENT_MAY_SET)):
            raise UsageError(f"agents can't be let set '{name}'; choose of {', '.join(AGENT_MAY_SET)}")

    def enforced(
        self, rollouts: Sampling, *, temperature: float | None, max_tokens: int | None, seed: int | None
    ) -> Sampling | None:
        """What a call is sampled with that asks so; None: as the rollout's. Fewer tokens may always be asked for.

        Raises:
            UsageError: a value outside its range.
        """
        if temperature is None or "temperature" not in self.agent_sets:
            temperature = rollouts.temperature
        if max_tokens is None or "max_tokens" not in self.agent_sets:
            max_tokens = min(max_tokens or rollouts.max_tokens, rollouts.max_tokens)
        if seed is None or "seed" not in self.agent_sets:
            seed = rollouts.seed
        elif not 0 <= seed < SEEDS:
            raise UsageError(f"seed is {seed}; it must lie in [0, 2**63)")
        asked = replace(rollouts, temperature=temperature, max_tokens=max_tokens, seed=seed)
        return None if asked == rollouts else asked
