"""Adapters that a trainer calls, a file each: its own generate function samples, and rows come back in its own shape.

A composition root beside the command: it may import envhub.app, and nothing of envhub imports it. A module of one
trainer imports that trainer; it is loaded by the trainer's own configuration, or by the trainer's script.
"""
