"""Options on what policies sample from, in one way of writing: ENGINE[:WHERE][,OPTION=VALUE...].

WHERE is a file of weights, or the URLs of servers, separated by commas.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated

import typer

from envhub.cli.options import MODEL, TRAINING
from envhub.contracts.engine import EngineOptions
from envhub.contracts.turn import CallKind
from envhub.errors import UnknownName, UsageError
from envhub.gateway.call_rules import CallRules
from envhub.rollouts.policies import PolicySettings

OPTION = re.compile(r"([a-z_]+)=(.*)")
TYPES = {option.name: option.type for option in fields(EngineOptions)}
USUAL = EngineOptions()

Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME[:WHERE]",
        help="What samples tokens: embedded (a small model in this process), a server like vllm:http://HOST:PORT "
        "(several, with commas between, share the work), or scripted (no model, for a try). Options of it may follow, "
        "like ,max_batch=64.",
        rich_help_panel=MODEL,
    ),
]
Policies = Annotated[
    list[str],
    typer.Option(
        "--policy",
        metavar="ID=NAME[:WHERE]",
        help="A frozen policy beside the one that trains, for sub-agents and judges that ask for it by that id; "
        "written like --engine. May be repeated.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]


Inexact = Annotated[
    bool,
    typer.Option(
        "--inexact",
        help="Give trainers also what an engine sampled without exact log probabilities.",
        rich_help_panel=TRAINING,
    ),
]


AgentSampling = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="What agents at the gateway may set themselves: temperature, max_tokens, seed, with commas between. What "
        "they ask for is recorded in any case.",
        show_default="nothing",
        rich_help_panel=MODEL,
    ),
]
TrainCalls = Annotated[
    str,
    typer.Option(
        metavar="KINDS",
        help="Which calls at the gateway train: main, subagent, side_call, with commas between.",
        rich_help_panel=MODEL,
    ),
]


KeepCalls = Annotated[
    bool,
    typer.Option(
        "--keep-calls",
        help="Record calls at the gateway as they went over the wire, without their secrets: for looking at. Each "
        "repeats its conversation, so the database grows.",
        rich_help_panel=MODEL,
    ),
]


def call_rules(agent_sampling: str, train_calls: str, *, keep_bodies: bool = False) -> CallRules:
    """
    Raises:
        UsageError: no such setting, or no such kind of calls.
    """
    kinds = names_in(train_calls)
    for kind in kinds:
        if kind not in set(CallKind):
            raise UsageError(f"calls are never '{kind}'; choose of {', '.join(CallKind)}")
    return CallRules(frozenset(names_in(agent_sampling)), frozenset(map(CallKind, kinds)), keep_bodies)


def names_in(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@dataclass(frozen=True, slots=True)
class ShortOptions:
    """What --weights, --threads and --max-batch say of the policy that trains."""

    weights: str
    threads: int
    max_batch: int


def trained_policy(engine: str, short: ShortOptions) -> PolicySettings:
    """The policy under training.

    Raises:
        UsageError: as read_policy; or the weights are said twice.
    """
    told = read_policy(engine)
    if short.weights and told.options.weights:
        raise UsageError(f"the weights are '{told.options.weights}' and '{short.weights}'; leave --weights out")
    options = told.options
    return replace(
        told,
        options=replace(
            options,
            weights=options.weights or short.weights,
            threads=short.threads if options.threads == USUAL.threads else options.threads,
            max_batch=short.max_batch if options.max_batch == USUAL.max_batch else options.max_batch,
        ),
    )


def frozen_policies(given: list[str]) -> dict[str, PolicySettings]:
    """What --policy says.

    Raises:
        UsageError: as read_policy; or a policy without an id, or one that is named twice.
    """
    policies: dict[str, PolicySettings] = {}
    for policy in given:
        name, _, engine = policy.partition("=")
        if not name or not engine:
            raise UsageError(f"--policy '{policy}' must read ID=NAME[:WHERE], like judge=vllm:http://10.0.0.7:8000")
        if name in policies:
            raise UsageError(f"--policy names '{name}' twice; leave one out")
        policies[name] = read_policy(engine)
    return policies


def read_policy(text: str) -> PolicySettings:
    """The settings that NAME[:WHERE][,OPTION=VALUE...] stands for.

    Raises:
        UsageError: it does not read so, or there is no such option.
    """
    first, *more = text.split(",")
    engine, _, place = first.partition(":")
    options = [found for part in more if (found := OPTION.fullmatch(part))]
    places = [place, *more[: len(more) - len(options)]] if place else []
    if not engine or len(places) + len(options) != len(more) + bool(place) or any(map(OPTION.fullmatch, places[1:])):
        raise UsageError(
            f"engine '{text}' must read NAME[:WHERE][,OPTION=VALUE...], options last, like "
            "vllm:http://10.0.0.7:8000,http://10.0.0.8:8000,max_batch=64"
        )
    where = ",".join(places)
    values = {"url" if "://" in where else "weights": where} if where else {}
    for option in options:
        values[option[1]] = option[2]
    return PolicySettings(engine, EngineOptions(**{name: _value(name, text) for name, text in values.items()}))  # type: ignore[arg-type]


def written(policy: PolicySettings) -> str:
    """What read_policy reads it from."""
    options = policy.options
    where = options.url or options.weights
    return ",".join((f"{policy.engine}:{where}" if where else policy.engine, *_written(options)))


def _written(options: EngineOptions) -> Iterator[str]:
    for name in TYPES:
        value = getattr(options, name)
        shown_first = name == "url" or (name == "weights" and not options.url)
        if value != getattr(USUAL, name) and not shown_first:
            yield f"{name}={value}"


def _value(name: str, text: str) -> str | int:
    if name not in TYPES:
        raise UnknownName.of("option of an engine", name, TYPES)
    if TYPES[name] is not int:
        return text
    if not text.isdecimal():
        raise UsageError(f"{name} of an engine is '{text}'; it must be a whole number")
    return int(text)
