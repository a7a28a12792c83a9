"""Isolated places to act: back ends and the pool that leases them.

Reading order: sandbox.py, what every back end makes -> place.py and host/channel.py, what it is made of ->
inside/agent.py, who answers -> a back end (zygote/, bubblewrap/, docker/, process/) -> pool/pool.py, pool/lease.py,
pool/grant.py -> reaper.py.
"""
