"""envhub: run agents for reinforcement learning, and record exactly which tokens they sampled."""
