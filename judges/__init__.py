"""Reward functions and judges, usable alone: `from judges import exact, number`."""

from judges.text import exact, number

__all__ = ["exact", "number"]
