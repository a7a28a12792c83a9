"""Tools: what an agent may call, described to the model by their signatures."""

from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset

__all__ = ["Toolset", "tool"]
