"""Policies: what the rollouts of a run act with, opened from plain settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import anyio
from anyio import to_thread

from envhub.contracts.engine import EngineOptions, Model, ServedEngine
from envhub.contracts.ids import TRAINED, PolicyId
from envhub.contracts.policy import PolicyFactory
from envhub.engines.replicas import open_replicas
from envhub.errors import UsageError
from envhub.registry import engines
from envhub.rollouts.platform import MessagePolicy, ServedPolicy
from envhub.tokens.chat import ChatRenderer

CLOSE_S = 10.0  # for an engine to end what it is doing


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What one policy samples from: an engine by its name, and what that is opened with.

    Raises:
        UsageError: a server is named twice, or an empty one.
    """

    engine: str = "embedded"
    options: EngineOptions = EngineOptions()

    def __post_init__(self) -> None:
        urls = self.urls
        if urls and (len(set(urls)) < len(urls) or not all(urls)):
            raise UsageError(
                f"url is '{self.options.url}'; it must name each server once, as http://HOST:PORT, with commas between"
            )

    @property
    def urls(self) -> tuple[str, ...]:
        """Of its servers; none for an engine in this process."""
        return tuple(url.strip().rstrip("/") for url in self.options.url.split(",")) if self.options.url else ()

    @property
    def model(self) -> dict[str, str]:
        """What names the model: a run that goes on must have it again. Servers may have moved meanwhile."""
        return {"engine": self.engine, "weights": Path(self.options.weights).name or self.options.model}


@asynccontextmanager
async def open_policies(
    settings: Mapping[PolicyId, PolicySettings], started_at: float, *, exact: bool = False
) -> AsyncIterator[dict[PolicyId, ServedPolicy | MessagePolicy]]:
    """The policies, each with a model of its own; all but the one under training are frozen. Prompts say that it is
    `started_at`.

    Raises:
        UsageError: an engine does not exist, or can't be opened so; or the policy under training is to be `exact`, and
            is not.
    """
    async with AsyncExitStack() as stack:
        policies: dict[PolicyId, ServedPolicy | MessagePolicy] = {}
        for policy_id, told in settings.items():
            opened = await stack.enter_async_context(open_engine(told))
            if exact and policy_id == TRAINED:
                _check_exact(told, opened)
            if isinstance(opened, Model):
                renderer = ChatRenderer.of(opened, now=datetime.fromtimestamp(started_at))
                policies[policy_id] = ServedPolicy(opened, renderer, frozen=policy_id != TRAINED)
            else:
                policies[policy_id] = MessagePolicy(opened)
        yield policies


@asynccontextmanager
async def open_engine(settings: PolicySettings) -> AsyncIterator[Model | PolicyFactory]:
    """What the engine makes of the settings: a model, its weights loaded, its servers as one engine; or policies over
    messages, without one."""
    async with AsyncExitStack() as stack:
        opened: dict[str, Model | PolicyFactory] = {}
        for url in settings.urls or ("",):
            opened[url] = await _opened(settings.engine, replace(settings.options, url=url))
            stack.push_async_callback(close, opened[url])
        first, *others = opened.values()
        models = {url: model for url, model in opened.items() if isinstance(model, Model)}
        servers = {url: model.engine for url, model in models.items() if isinstance(model.engine, ServedEngine)}
        if others and len(servers) < len(opened):
            raise UsageError(f"engine '{settings.engine}' takes one url; its servers can't be replicas of each other")
        if settings.urls and servers:
            first, *others_of_it = models.values()
            for other in others_of_it:
                _check_same(settings, first, other)
            replicas = await stack.enter_async_context(open_replicas(servers, places=settings.options.max_batch))
            first = replace(first, engine=replicas)
        yield first


async def _opened(engine: str, options: EngineOptions) -> Model | PolicyFactory:
    made = await to_thread.run_sync(engines.get(engine), options)
    return replace(made, call_form=options.call_form) if isinstance(made, Model) else made


def _check_exact(settings: PolicySettings, opened: Model | PolicyFactory) -> None:
    if not (isinstance(opened, Model) and opened.exact):
        raise UsageError(
            f"engine '{settings.engine}' gives no exact log probabilities, and trainers get none but these; choose "
            "another engine, leave the feed out, or allow them with --inexact"
        )


def _check_same(settings: PolicySettings, one: Model, other: Model) -> None:
    same_name = one.name == other.name
    if same_name and one.chat_template == other.chat_template:
        return
    difference = "chat templates of their own" if same_name else f"'{one.name}' and '{other.name}'"
    raise UsageError(
        f"the servers at {settings.options.url} serve {difference}; those of one policy must serve the same model: "
        "give the other one a policy of its own"
    )


async def close(opened: Model | PolicyFactory) -> None:
    """Closes it also where the run is cancelled."""
    with anyio.move_on_after(CLOSE_S, shield=True):
        await (opened.engine if isinstance(opened, Model) else opened).close()
