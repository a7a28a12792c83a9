"""Jobs and settings out of a trainer's own configuration files, and what a worker of a trainer keeps of them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from envhub.errors import UsageError

T = TypeVar("T")

KEPT = "_envhub"  # attribute of the trainer's object


def configured(kind: type[T], told: Mapping[str, Any] | T) -> T:
    """A Job or Settings, of the mapping that YAML makes of it.

    Raises:
        UsageError: a name that it does not have, or a value that can't be.
    """
    if isinstance(told, kind):
        return told
    if not isinstance(told, Mapping):
        raise UsageError(f"{kind.__name__} is {told!r}; write it as a mapping of its fields")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # both are dataclasses
    unknown = sorted(told.keys() - known)
    if unknown:
        raise UsageError(f"{kind.__name__} has no '{unknown[0]}'; it has {', '.join(sorted(known))}")
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{kind.__name__} in the trainer's configuration: {error}") from error


def kept_by(owner: object, configuration: object, make: Callable[[], T]) -> T:
    """What was made for that configuration before, else what is made now. Trainers make their loops anew for every
    rollout; `owner` is an object of the trainer that lives as long as its worker does."""
    kept: dict[bytes, T] = vars(owner).setdefault(KEPT, {})
    name = msgspec.json.encode(configuration, order="sorted")
    if name not in kept:
        kept[name] = make()
    return kept[name]
