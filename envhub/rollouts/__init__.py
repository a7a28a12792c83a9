"""Runs rollouts: the episode, the manager of groups, admission, delivery and resume."""
