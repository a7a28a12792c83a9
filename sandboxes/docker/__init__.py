"""Sandboxes by a container engine: Docker, Podman, gVisor."""
