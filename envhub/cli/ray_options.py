"""Options of workers on the nodes of a Ray cluster."""

from collections.abc import Iterator
from typing import Annotated

import typer

from envhub.cli.options import PLACE
from envhub.errors import UsageError
from envhub.rollouts.ray_places import NEEDS, RayPlaces

Ray = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="HOST:PORT|auto",
        help="Put the workers on the nodes of that Ray cluster, of which this machine is part.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]
Needs = Annotated[
    list[str],
    typer.Option(
        "--worker-needs",
        metavar="RESOURCE=N",
        help="What each worker on a Ray cluster takes of its node: CPU (1 by default), GPU, memory in bytes, or a "
        "resource that the cluster names; may be repeated.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]
Labels = Annotated[
    list[str],
    typer.Option(
        "--worker-label",
        metavar="NAME=VALUE",
        help="A label that nodes of a Ray cluster must have to get workers; may be repeated.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]


def places(address: str, needs: list[str], labels: list[str]) -> RayPlaces | None:
    """What they say; None where workers stay on this machine.

    Raises:
        UsageError: one does not read as it must, or they say where workers go that stay.
    """
    if not address:
        if needs or labels:
            raise UsageError("--worker-needs and --worker-label choose nodes of a Ray cluster; name it with --ray")
        return None
    amounts = {name: _amount(name, amount) for name, amount in _pairs("--worker-needs", "RESOURCE=N", needs)}
    return RayPlaces(address, {**NEEDS, **amounts}, dict(_pairs("--worker-label", "NAME=VALUE", labels)))


def _pairs(option: str, form: str, given: list[str]) -> Iterator[tuple[str, str]]:
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} '{pair}' must read {form}")
        yield name, value


def _amount(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--worker-needs '{name}={text}': '{text}' is no number") from error
