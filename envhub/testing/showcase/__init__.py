"""A run as people meet them, made in seconds: what the dashboard is tested and shown with."""

from envhub.testing.showcase.run import RUN, SWARM, Showcase, record

__all__ = ["RUN", "SWARM", "Showcase", "record"]
