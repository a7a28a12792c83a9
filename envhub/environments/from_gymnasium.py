"""GymnasiumEnvironment: a gymnasium.Env as an Environment over text."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, TypeVar

from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.messages import Message, Role
from envhub.contracts.policy import Action
from envhub.contracts.task import Task
from envhub.environments.opening import opening
from envhub.toolsets.threads import Threads

if TYPE_CHECKING:
    import gymnasium

    from envhub.contracts.context import Context

Obs = TypeVar("Obs")
Act = TypeVar("Act")
T = TypeVar("T")

GYMNASIUM_THREADS = Threads("gymnasium", 32)


class GymnasiumEnvironment(Environment, Generic[Obs, Act]):
    """Text in place of observations and actions; the score is the sum of the rewards.

    `render` writes an observation as text. `parse` reads an action from a message; where it raises ValueError, or the
    action is outside the action space, the model is told so and the gymnasium.Env is not stepped. Its methods block,
    so they run in threads, one at a time.
    """

    def __init__(
        self,
        make_env: "Callable[[], gymnasium.Env[Obs, Act]]",
        *,
        render: Callable[[Obs], str],
        parse: Callable[[str], Act],
        system: str = "",
    ) -> None:
        self._make_env = make_env
        self._render = render
        self._parse = parse
        self._system = system
        self._env: gymnasium.Env[Obs, Act] | None = None
        self._turn = Lock()  # a step that was given up may still run when close() comes

    async def reset(self, task: Task, *, seed: int, ctx: "Context") -> Observation:
        # Gymnasium takes any non-negative seed, many of its environments only 32 bits.
        observation, info = await self._run(partial(self._reset, seed % 2**32))
        return Observation(self._opening(task, self._render(observation)), info)

    async def step(self, action: Action) -> StepResult:
        try:
            act = self._read(action.message.content)
        except ValueError as error:
            return StepResult(Observation((Message.user(f"{error}; nothing was done."),)))
        observation, reward, terminated, truncated, info = await self._run(partial(self._step, act))
        shown = Observation((Message.user(self._render(observation)),))
        return StepResult(shown, float(reward), bool(terminated), bool(truncated), info)

    async def close(self) -> None:
        if self._env is not None:
            await self._run(self._close)

    def _opening(self, task: Task, first: str) -> tuple[Message, ...]:
        """The first observation ends the prompt's last message: many chat templates refuse two of a user in a row."""
        *before, last = opening(task, system=self._system)
        if last.role is not Role.USER:
            return (*before, last, Message.user(first))
        return (*before, replace(last, content=f"{last.content}\n\n{first}"))

    def _read(self, text: str) -> Act:
        act = self._parse(text)
        if self._env is not None and act not in self._env.action_space:
            raise ValueError(f"{act!r} is not in {self._env.action_space}")
        return act

    async def _run(self, function: Callable[[], T]) -> T:
        def locked() -> T:
            with self._turn:
                return function()

        return await GYMNASIUM_THREADS.run(locked)

    def _reset(self, seed: int) -> tuple[Obs, dict[str, Any]]:
        if self._env is None:
            self._env = self._make_env()
        return self._env.reset(seed=seed)

    def _step(self, act: Act) -> tuple[Obs, SupportsFloat, bool, bool, dict[str, Any]]:
        assert self._env is not None, "step() comes after reset()"
        return self._env.step(act)

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()
