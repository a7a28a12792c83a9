"""Research: tasks over a made-up archipelago, whose pages are drawn from a seed and whose answers are exact.

After the synthetic prompts of arXiv:2602.02276 §3: each strains an agent that does one thing after another, and none
says how to work.
"""
