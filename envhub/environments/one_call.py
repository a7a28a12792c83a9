"""OneCallEnvironment: tools that an agent uses one at a time, as a reader has one page before the eyes."""

from dataclasses import replace

from envhub.contracts.environment import StepResult
from envhub.contracts.policy import Action
from envhub.environments.tool_environment import ToolEnvironment


class OneCallEnvironment(ToolEnvironment):
    """Of the calls of one action only the first is run: what takes many calls takes as many actions of one agent."""

    async def step(self, action: Action) -> StepResult:
        first, rest = action.message.tool_calls[:1], action.message.tool_calls[1:]
        refused = tuple(replace(call, error="one call an action; make this one in the next") for call in rest)
        return await super().step(replace(action, message=replace(action.message, tool_calls=first + refused)))
