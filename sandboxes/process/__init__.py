"""Sandboxes without isolation."""
