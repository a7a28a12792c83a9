"""Engines: token ids in, sampled ids with exact log probabilities out."""
