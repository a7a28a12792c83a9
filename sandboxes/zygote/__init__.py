"""Sandboxes by zygote."""
