"""Who may reach the servers of a run, as the command line says it: certificates and tokens are files.

No token is an option: what a command was told is shown by every list of processes.
"""

from dataclasses import fields
from typing import Annotated

import typer

from envhub.app.access import VARIABLES, read_access
from envhub.contracts.access import Access, Rates, Role, TlsFiles
from envhub.errors import UnknownName, UsageError

ACCESS = "Access"  # a panel of the help

Certificate = Annotated[
    str,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="The servers' certificate and its chain, in PEM: feed, gateway and dashboard speak TLS. Read again "
        "whenever it changes.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
Key = Annotated[
    str,
    typer.Option("--key", metavar="FILE", help="Its private key, in PEM.", show_default=False, rich_help_panel=ACCESS),
]
ClientCa = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Whose certificates clients of the feed have to show, in PEM.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
Tokens = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help=f"A line for each token: {', '.join(Role)}, then the token, then whose it is. Or tokens in variables: "
        f"{', '.join(VARIABLES)}.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
BehindProxy = Annotated[
    bool,
    typer.Option(
        "--behind-proxy",
        help="A proxy before them ends TLS: they are served in the clear, also beyond loopback.",
        rich_help_panel=ACCESS,
    ),
]
RateLimits = Annotated[
    list[str],
    typer.Option(
        "--rate",
        metavar="KIND=N",
        help="How many a second one caller may do: control, submit, session or failure (wrong tokens of one address); "
        "may be repeated.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]


def access(tokens: str, certificate: str, key: str, client_ca: str, *, proxied: bool, rates: list[str]) -> Access:
    """What the options and variables say.

    Raises:
        UsageError: a file that can't be read or does not hold what it should, or options that don't go together.
    """
    if bool(certificate) != bool(key) or (client_ca and not key):
        raise UsageError("TLS needs both --cert and --key; give the other one as well")
    if key and proxied:
        raise UsageError("--behind-proxy says that a proxy ends TLS; leave it out, or --cert and --key")
    tls = TlsFiles(certificate, key, client_ca) if key else None
    return read_access(tokens, tls, proxied=proxied, rates=_rates(rates))


def _rates(said: list[str]) -> Rates:
    kinds = [one.name for one in fields(Rates)]
    numbers: dict[str, float] = {}
    for rate in said:
        kind, _, number = rate.partition("=")
        if kind not in kinds:
            raise UnknownName.of("kind of --rate", kind, kinds)
        try:
            numbers[kind] = float(number)
        except ValueError:
            raise UsageError(f"--rate '{rate}' must read KIND=N, like {kind}=10") from None
    return Rates(**numbers)
