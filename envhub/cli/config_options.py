"""--config, and how a command's options become the keys of a configuration."""

import os
from dataclasses import MISSING, Field, fields, replace
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from envhub.app.configuration import PREFIX, USUAL, Key, Value, configuration
from envhub.cli.loading import load
from envhub.cli.taking import is_told, long_name

Config = Annotated[
    str,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="ENVHUB_CONFIG",
        help="A TOML file with options, as `envhub config show` prints one. What the command line and variables say "
        "comes first.",
        show_default=False,
    ),
]
T = TypeVar("T")

OF_ONE_CALL = ("context", "config", "resume", "as_json")  # which no file says
NO_VARIABLE = "feed"  # ENVHUB_FEED is the address that a trainer reads
TOPIC = "More"


def configured(told: T, context: typer.Context, file: str) -> T:
    """The options with what variables and the file say of those that the command line left out.

    Raises:
        UsageError: the file can't be read, or something in it or in a variable is wrong.
    """
    keys = keys_of(context.command, type(told))
    said = {key.name: getattr(told, field) for field, key in keys.items() if is_told(context, field)}
    settings = configuration(keys.values(), said, file, os.environ).checked()
    added = {field: settings[key.name].value for field, key in keys.items() if settings[key.name].source != USUAL}
    if "load" in added:
        load(added["load"])  # type: ignore[arg-type]  # a list, as its key says
    return replace(told, **added)  # type: ignore[type-var]  # a dataclass, which TypeVar can't say


def keys_of(command: Any, options: type) -> dict[str, Key]:
    """The keys of a command whose options are the fields of a dataclass, by field."""
    hints = get_type_hints(options)
    declared = {field.name: field for field in fields(options)}
    return {
        parameter.name: _key(parameter, hints[parameter.name], declared[parameter.name])
        for parameter in command.params
        if parameter.name in declared and parameter.name not in OF_ONE_CALL
    }


def _key(parameter: Any, hint: Any, field: Field[Any]) -> Key:
    long = long_name(parameter)
    name = long[2:].replace("-", "_") if long.startswith("--") else "environments"  # the one argument
    usual: Value = field.default if field.default_factory is MISSING else field.default_factory()  # type: ignore[assignment]
    form = parameter.metavar or ""
    variable = "" if name == NO_VARIABLE else f"{PREFIX}{name.upper()}"
    topic = parameter.rich_help_panel or TOPIC
    return Key(name, _kind(hint), usual, parameter.help or "", topic, form, variable)


def _kind(hint: Any) -> type:
    """The type that is not None."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] or [hint]
    return list if get_origin(hint) is list else kinds[0]
