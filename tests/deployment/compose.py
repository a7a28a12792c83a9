"""docker-compose.yml, brought up for real by `deploy/up` on ports that are free here, and taken down again."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PORTS = ("DASHBOARD", "FEED", "GATEWAY", "GATEWAY_FEED", "PROMETHEUS")
IMAGE = "envhub-of-tests"
PATIENCE_S = 400.0  # Ray gives a node 30 s to start, and a busy machine takes several tries


@dataclass(frozen=True, slots=True)
class Deployment:
    """What compose runs."""

    environment: dict[str, str]
    tokens: dict[str, str]  # by role

    def port(self, name: str) -> int:
        """That a service is reached at, by the end of its PUBLISH_ variable."""
        return int(self.environment[f"PUBLISH_{name}"])

    def http(self, name: str, role: str = "") -> httpx.Client:
        """A client of a service, with the token of a role."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port(name)}", headers=headers, timeout=30.0)

    def compose(self, *words: str) -> str:
        """What that command of compose prints.

        Raises:
            AssertionError: it failed.
        """
        return execute([*compose_command(), *words], self.environment)

    def docker(self, *words: str) -> str:
        return execute(["docker", *words], self.environment)

    def containers(self, service: str) -> list[str]:
        """Their ids, the ended ones' too."""
        labels = (f"project={self.environment['COMPOSE_PROJECT_NAME']}", f"service={service}")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return self.docker("ps", "--all", "--quiet", *filters).split()

    def ready(self, name: str) -> bool:
        """Whether a server of envhub takes work."""
        try:
            with self.http(name) as http:
                return http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def compose_command() -> list[str]:
    """Of the plug-in, or of the program that was before it; empty where there is neither."""
    if shutil.which("docker") is None:
        return []
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    alone = shutil.which("docker-compose")
    return ["docker", "compose"] if plugin.returncode == 0 else [alone] if alone else []


@contextmanager
def deployed(secrets: Path) -> Iterator[Deployment]:
    """A deployment whose servers take work, with secrets made there; nothing of it is left at the end but images."""
    environment = os.environ | {
        "COMPOSE_PROJECT_NAME": f"envhub-of-tests-{os.getpid()}",
        "ENVHUB_IMAGE": IMAGE,
        "ENVHUB_SECRETS": str(secrets),
        "DOCKER_BUILDKIT": "0",  # Debian's engine lacks it
        **{f"PUBLISH_{name}": str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
    }
    execute([str(ROOT / "tests/deployment/images/build"), "docker"], environment)
    build = ("--network", "host", "--file", "deploy/Dockerfile", "--tag", IMAGE)  # the engine may have no bridge
    execute(["docker", "build", *build, "."], environment)
    deployment = Deployment(environment, {})
    try:
        execute(["deploy/up"], environment)
        lines = [line.split() for line in (secrets / "tokens").read_text().splitlines()]
        deployment.tokens.update((role, token) for role, token, *_ in lines)
        until(lambda: deployment.ready("DASHBOARD") and deployment.ready("GATEWAY"))
        yield deployment
    finally:
        sys.stderr.write(deployment.compose("logs", "--no-color", "--tail", "200"))  # shown of a failed test
        deployment.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def execute(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def until(condition: Callable[[], bool]) -> None:
    """Waits for a state.

    Raises:
        AssertionError: it does not come.
    """
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, f"not so after {PATIENCE_S:g} s"
        time.sleep(0.2)
