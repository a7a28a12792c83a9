"""A package that nobody has installed, and an environment that requires it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.policy import Action
from envhub.contracts.task import Task
from envhub.registry import environment

NAME = "envhub_test_abacus-1.0"
WHEEL = Path(tempfile.gettempdir()) / f"envhub-test-abacus-{os.getuid()}" / f"{NAME}-py3-none-any.whl"
REQUIRED = f"envhub-test-abacus @ {WHEEL.as_uri()}"
FILES = {
    "envhub_test_abacus.py": "BEADS = 3\n",
    f"{NAME}.dist-info/METADATA": "Metadata-Version: 2.1\nName: envhub-test-abacus\nVersion: 1.0\n",
    f"{NAME}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{NAME}.dist-info/RECORD": "",
}


@contextmanager
def wheel() -> Iterator[None]:
    """It can be installed meanwhile."""
    WHEEL.parent.mkdir(exist_ok=True)
    with ZipFile(WHEEL, "w") as made:
        for name, text in FILES.items():
            made.writestr(name, text)
    try:
        yield
    finally:
        shutil.rmtree(WHEEL.parent)


class Abacus(Environment):
    """Worth as much as the package has beads."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        import envhub_test_abacus  # type: ignore[import-not-found]

        return StepResult(reward=float(envhub_test_abacus.BEADS), terminated=True)


@environment("test/abacus-v0", tasks=[Task.ask("count", id="one")], requires=[REQUIRED])
def abacus() -> Environment:
    return Abacus()


@environment("test/nowhere-v0", tasks=[Task.ask("count", id="one")], requires=["./nowhere-1.0-py3-none-any.whl"])
def nowhere() -> Environment:
    return Abacus()
