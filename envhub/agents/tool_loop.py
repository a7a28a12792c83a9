"""ToolLoop: the default agent. Asks the policy, lets the environment answer, until the episode is over."""

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation
from envhub.contracts.policy import PolicyInput
from envhub.contracts.turn import Finish
from envhub.errors import Truncated

CUT = {Finish.LENGTH: "length", Finish.CONTEXT: "context"}


class ToolLoop:
    """One action a turn, the whole conversation every time; what is recorded of it is never tokenised again."""

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        policy = ctx.policy()
        messages = observation.messages
        while True:
            action = await policy.act(PolicyInput(messages, environment.tools))
            result = await environment.step(action)
            if action.finish in CUT:
                raise Truncated(CUT[action.finish])
            if result.truncated:
                raise Truncated("environment")
            if result.terminated:
                return
            messages = (*messages, action.message, *result.observation.messages)
