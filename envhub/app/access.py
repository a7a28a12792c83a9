"""Who may ask the servers of a run, as files and variables say it.

No option holds a token: lists of processes show options.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from envhub.contracts.access import Access, Rates, Role, TlsFiles, Token
from envhub.errors import UsageError
from envhub.http_server.certificates import Certificates

USUAL = Rates()
VARIABLES = {
    "ENVHUB_TOKEN": Role.OPERATOR,
    "ENVHUB_TRAINER_TOKEN": Role.TRAINER,
    "ENVHUB_VIEWER_TOKEN": Role.VIEWER,
    "ENVHUB_AGENT_TOKEN": Role.AGENT,
}


def read_access(
    tokens_file: str = "", tls: TlsFiles | None = None, *, proxied: bool = False, rates: Rates = USUAL
) -> Access:
    """What they say now.

    Raises:
        UsageError: a file that can't be read or does not hold what it should, or things that don't go together.
    """
    if tls:
        Certificates(tls)
    tokens = [*_from_variables(os.environ), *(_from_file(tokens_file) if tokens_file else ())]
    return Access(tuple(tokens), tls, proxied, rates)


def forget_tokens() -> None:
    """Takes the tokens out of this process's environment, for all that it starts from now on would inherit them."""
    for variable in VARIABLES:
        os.environ.pop(variable, None)


def _from_variables(variables: Mapping[str, str]) -> Iterator[Token]:
    for variable, role in VARIABLES.items():
        if secret := variables.get(variable, ""):
            yield Token(secret, role)


def _from_file(file: str) -> Iterator[Token]:
    try:
        lines = Path(file).read_bytes().decode(errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"'{file}' can't be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not 2 <= len(words) <= 3 or words[0] not in list(Role):  # what it says may be a secret: it is not shown
            raise UsageError(
                f"line {number} of the tokens in '{file}' must read ROLE TOKEN or ROLE TOKEN NAME; "
                f"the roles are {', '.join(Role)}"
            )
        yield Token(words[1], Role(words[0]), *words[2:])
