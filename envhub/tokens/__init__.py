"""Exact tokens: chat rendering, parsing of calls, a rollout's ledger, its rows, and the TokenPolicy over it all."""
