"""Environments: put together from parts, adapted from and to Gymnasium, or built in."""

from envhub.environments.from_gymnasium import GymnasiumEnvironment
from envhub.environments.single_turn import SingleTurn
from envhub.environments.tool_environment import ToolEnvironment

__all__ = ["GymnasiumEnvironment", "SingleTurn", "ToolEnvironment"]
