"""Configuration: the options of a command, and where each has its value from.

The command line comes before variables, variables before the file, the file before what is usual.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from envhub.errors import UnknownName, UsageError

Value: TypeAlias = bool | int | float | str | list[str] | None

PREFIX, OF_FILE = "ENVHUB_", "_FILE"  # ENVHUB_SEED holds a value, ENVHUB_SEED_FILE names a file that holds it
COMMAND_LINE, USUAL = "command line", "default"  # where a value is from; else its variable, or the file
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list of texts"}
WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
READERS: Mapping[type, Callable[[str], Value]] = {
    bool: lambda text: WORDS[text.lower()],
    int: int,
    float: float,
    str: str,
    list: shlex.split,
}
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*:)[^@\s]*(?=@)|(password=)[^&\s]*")


@dataclass(frozen=True, slots=True)
class Key:
    """An option as it is called in a file."""

    name: str
    kind: type  # bool, int, float, str, or list: of texts
    usual: Value
    help: str
    topic: str
    form: str = ""  # how a value reads, like HOST:PORT; with a "=", a list may be written as a table
    variable: str = ""  # that may hold it; "": none

    def typed(self, value: object) -> Value:
        """What a file says, as the option takes it.

        Raises:
            UsageError: it is of another kind.
        """
        if self.is_table and isinstance(value, dict):
            return [f"{name}={given}" for name, given in value.items()]
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if type(value) is self.kind and (texts or self.kind is not list):
            return value  # type: ignore[return-value]  # each kind is one of Value
        if self.kind is float and type(value) is int:
            return float(value)
        raise self._wrong(value)

    def read(self, text: str) -> Value:
        """What a variable says, as the option takes it.

        Raises:
            UsageError: it does not read so.
        """
        try:
            return READERS[self.kind](text)
        except (ValueError, KeyError):
            raise self._wrong(text) from None

    @property
    def is_table(self) -> bool:
        """Whether it is a list that a file may write as a table."""
        return self.kind is list and "=" in self.form

    def _wrong(self, value: object) -> UsageError:
        table = f", or a table of {self.form}" if self.is_table else ""
        return UsageError(f"{self.name} is {without_password(repr(value))}; it must be {KINDS[self.kind]}{table}")


@dataclass(frozen=True, slots=True)
class Setting:
    """An option with its value."""

    key: Key
    value: Value
    source: str  # COMMAND_LINE, USUAL, the file, or a variable

    @property
    def shown(self) -> str:
        """The value for people: no password; "" for none."""
        match self.value:
            case None:
                return ""
            case bool():
                return str(self.value).lower()
            case list():
                return without_password(shlex.join(self.value))
        return without_password(str(self.value))


@dataclass(frozen=True, slots=True)
class Configuration:
    """All options, and what is wrong with what was said."""

    settings: tuple[Setting, ...]
    mistakes: tuple[str, ...] = ()

    def checked(self) -> Mapping[str, Setting]:
        """By name.

        Raises:
            UsageError: something is wrong.
        """
        if self.mistakes:
            raise UsageError("; ".join(self.mistakes))
        return {setting.key.name: setting for setting in self.settings}


def configuration(
    keys: Collection[Key], told: Mapping[str, Value], file: str, variables: Mapping[str, str]
) -> Configuration:
    """What each of these options is, where the command line told some; `file`: "" for none.

    Raises:
        UsageError: the file can't be read, or is no TOML.
    """
    mistakes: list[str] = []
    in_file = dict(_of_file(keys, file, mistakes)) if file else {}
    in_variables = dict(_of_variables(keys, variables, mistakes))
    usual = (Setting(key, key.usual, USUAL) for key in keys)
    settings = tuple(
        Setting(setting.key, told[name], COMMAND_LINE)
        if (name := setting.key.name) in told
        else in_variables.get(name) or in_file.get(name) or setting
        for setting in usual
    )
    return Configuration(settings, tuple(mistakes))


def without_password(text: str) -> str:
    """The same, with the passwords of URLs in it left out."""
    return PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", text)


def _of_file(keys: Collection[Key], file: str, mistakes: list[str]) -> Iterator[tuple[str, Setting]]:
    known = {key.name: key for key in keys}
    for name, value in _toml(file).items():
        try:
            if name not in known:
                raise UnknownName.of("option", name, known, "envhub config show")
            setting = Setting(known[name], known[name].typed(value), file)
            if PASSWORD.search(str(value)):
                raise UsageError(
                    f"{name} has a password in it, and files of settings are copied about; put it into PGPASSWORD, or "
                    f"the whole into a file of its own that {known[name].variable}{OF_FILE} names"
                )
            yield name, setting
        except UsageError as error:
            mistakes.append(f"in '{file}': {error}")


def _of_variables(
    keys: Collection[Key], variables: Mapping[str, str], mistakes: list[str]
) -> Iterator[tuple[str, Setting]]:
    for key in keys:
        name, text = _variable(key, variables, mistakes)
        if text:
            try:
                yield key.name, Setting(key, key.read(text), name)
            except UsageError as error:
                mistakes.append(f"in {name}: {error}")


def _variable(key: Key, variables: Mapping[str, str], mistakes: list[str]) -> tuple[str, str]:
    """The variable that says the option, and what; empty where none does."""
    direct, by_file = key.variable, f"{key.variable}{OF_FILE}"
    if not direct or not variables.get(by_file):
        return direct, variables.get(direct, "")
    if variables.get(direct):
        mistakes.append(f"{direct} and {by_file} both say what {key.name} is; leave one out")
        return direct, ""
    try:
        return by_file, _read(variables[by_file]).strip()
    except UsageError as error:
        mistakes.append(f"in {by_file}: {error}")
        return by_file, ""


def _toml(file: str) -> dict[str, object]:
    try:
        return tomllib.loads(_read(file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"'{file}' is no TOML: {error}; `envhub config show` prints one") from error


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(f"'{file}' can't be read: {reason}") from error
