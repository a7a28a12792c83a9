"""Reward functions and judges; usable alone."""
