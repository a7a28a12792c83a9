"""Requirements: whether this process has what an environment declares that it needs."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

from envhub.errors import UsageError
from envhub.registry import EnvironmentSpec


def equipped(spec: EnvironmentSpec) -> bool:
    """Whether all is here.

    Raises:
        UsageError: something does not read as a requirement.
    """
    return not any(_lacking(spec))


def check_requirements(spec: EnvironmentSpec) -> None:
    """
    Raises:
        UsageError: something is lacking, or does not read as a requirement.
    """
    if lacking := ", ".join(_lacking(spec)):
        raise UsageError(
            f"environment '{spec.id}' requires {lacking} in {sys.executable}; install that, or run it with --workers: "
            "these have it installed for themselves"
        )


def _lacking(spec: EnvironmentSpec) -> Iterator[str]:
    for text in spec.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise UsageError(
                f"environment '{spec.id}' requires '{text}', which does not read as a requirement of a package, like "
                f"'scipy>=1.11': {error}"
            ) from None
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"'{text}', which is not installed"
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                yield f"'{text}', and {requirement.name} {found} is installed"
