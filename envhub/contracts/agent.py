"""Agent: drives an Environment with a Policy. Chosen independently of the environment."""

from typing import Protocol

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation


class Agent(Protocol):
    """One agent loop. Holds no state of a rollout: one instance may drive many."""

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        """Acts until the episode is over.

        Raises:
            Truncated: a limit was met first.
            Fault: something broke.
        """
