"""ExternalAgent: the agent is a program outside, which calls the rollout's endpoint and says when it is finished."""

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.errors import Truncated


class ExternalAgent:
    """Hands the first observation outside and takes the final answer as its one action.

    The model calls in between are turns of the rollout. A program that never finishes ends with the rollout's deadline.
    """

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        async with ctx.endpoint() as endpoint:
            answer = await endpoint.ask(observation.messages)
        result = await environment.step(Action(Message.assistant(answer)))
        if result.truncated:
            raise Truncated("environment")
