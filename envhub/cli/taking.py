"""Commands whose options are the fields of a dataclass: each declared once, and passed on as one record."""

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import typer

T = TypeVar("T")


def takes(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """A command as typer wants it, a parameter an option, of a function that takes them all as one record."""

    def decorate(command: Callable[[T], None]) -> Callable[..., None]:
        @wraps(command)
        def call(**values: object) -> None:
            command(options(**values))

        hints = get_type_hints(options, include_extras=True)
        parameters = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default(field), annotation=hints[field.name]
            )
            for field in fields(options)  # type: ignore[arg-type]  # a dataclass, which TypeVar can't say
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = hints
        return call

    def default(field: Any) -> object:
        if field.default_factory is not MISSING:
            return field.default_factory()
        return inspect.Parameter.empty if field.default is MISSING else field.default

    return decorate


def words_told(context: typer.Context, *, leave_out: Collection[str]) -> tuple[str, ...]:
    """The options that the command line told, but for those, as it would be typed again."""
    options = (option for option in context.command.params if option.name not in leave_out)
    return tuple(word for option in options if is_told(context, option.name) for word in _words(context, option))


def is_told(context: typer.Context, option: str) -> bool:
    """Whether the command line says it."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _words(context: typer.Context, option: Any) -> Iterator[str]:
    name = long_name(option)
    value = context.params[option.name]
    for one in value if isinstance(value, (list, tuple)) else [value]:
        yield name
        if one is not True:
            yield str(one)


def long_name(option: Any) -> str:
    """Like --max-running; of an argument, its name in capitals."""
    return next((name for name in option.opts if name.startswith("--")), str(option.opts[0]))
