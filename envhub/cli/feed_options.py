"""Who may reach the feed, as the command line says it: certificates are files, tokens stand in files or variables.

No token is an option: what a command was told is shown by every list of processes.
"""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from envhub.errors import UsageError
from envhub.feed.access import FeedAccess, Role, ServerTls

FEED = "Feed"  # a panel of the help
ROLES = {role.name.lower(): role for role in Role if role is not Role.NOBODY}
VARIABLES = {f"ENVHUB_FEED_{role.name}_TOKEN": role for role in ROLES.values()}

Certificate = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="The feed's certificate and its chain, in PEM: it is served over TLS.",
        show_default=False,
        rich_help_panel=FEED,
    ),
]
Key = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="The certificate's private key, in PEM.", show_default=False, rich_help_panel=FEED
    ),
]
ClientCa = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Whose certificates trainers have to show, in PEM.",
        show_default=False,
        rich_help_panel=FEED,
    ),
]
Tokens = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="A line for each token: observer, trainer or operator, then the token. Or a token in a variable: "
        f"{', '.join(VARIABLES)}.",
        show_default=False,
        rich_help_panel=FEED,
    ),
]
Proxied = Annotated[
    bool,
    typer.Option(
        "--feed-behind-proxy",
        help="A proxy before the feed ends TLS: it is served in the clear, also beyond loopback.",
        rich_help_panel=FEED,
    ),
]


def feed_access(
    certificate: str, key: str, client_ca: str, tokens: str, proxied: bool, operator: str = ""
) -> FeedAccess:
    """What the options and variables say; `operator` is a token that was given elsewhere.

    Raises:
        UsageError: a file that can't be read or does not hold what it should, or options that don't go together.
    """
    tls = _tls(certificate, key, client_ca)
    if tls and proxied:
        raise UsageError("--feed-behind-proxy says that a proxy ends TLS; leave it out, or --feed-cert and --feed-key")
    roles: dict[str, Role] = {}
    for token, role in _tokens(tokens, operator):
        if roles.setdefault(token, role) is not role:
            names = f"{roles[token].name.lower()} and {role.name.lower()}"
            raise UsageError(f"one token is given for two roles, {names}; give each a token of its own")
    return FeedAccess(roles, tls, proxied)


def _tls(certificate: str, key: str, client_ca: str) -> ServerTls | None:
    if not (certificate and key):
        if certificate or key or client_ca:
            raise UsageError("TLS needs both --feed-cert and --feed-key; give the other one as well")
        return None
    tls = ServerTls(_read(certificate), _read(key), _read(client_ca) if client_ca else None)
    _check_pair(certificate, key)
    if tls.client_ca is not None:
        _check_authority(client_ca, tls.client_ca)
    return tls


def _check_pair(certificate: str, key: str) -> None:
    """gRPC says of what it can't use only that it could not bind."""
    try:
        # An encrypted key would be asked for on the terminal, which a server has not.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(
            f"--feed-cert '{certificate}' and --feed-key '{key}' can't be used ({error}); "
            "give a certificate in PEM and the private key that belongs to it, without a passphrase"
        ) from error


def _check_authority(file: str, pem: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"--feed-client-ca '{file}' holds no certificates in PEM ({error})") from error


def _tokens(file: str, operator: str) -> Iterator[tuple[str, Role]]:
    if operator:
        yield operator, Role.OPERATOR
    for variable, role in VARIABLES.items():
        if token := os.environ.get(variable, ""):
            yield token, role
    if file:
        yield from _tokens_of(file)


def _tokens_of(file: str) -> Iterator[tuple[str, Role]]:
    lines = _read(file).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in ROLES:  # what the line says may be a secret: it is not shown
            raise UsageError(
                f"line {number} of --feed-tokens '{file}' must read ROLE TOKEN; the roles are {', '.join(ROLES)}"
            )
        yield words[1], ROLES[words[0]]


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"'{file}' can't be read: {error.strerror}") from error
