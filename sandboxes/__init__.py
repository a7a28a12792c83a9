"""Isolated places to act: back ends and the pool that leases them."""
