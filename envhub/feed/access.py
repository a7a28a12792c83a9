"""Access: who may call a feed, over what, and from where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from envhub.contracts.address import is_loopback
from envhub.errors import UsageError


class Role(IntEnum):
    """What a token opens; each role may do what those below it may."""

    NOBODY = 0  # whoever connects: whether the server is well
    OBSERVER = 1  # reads how the run goes
    TRAINER = 2  # takes groups and submits others
    OPERATOR = 3  # pauses, aborts, drains


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What the server proves itself with, and who vouches for its clients, if they have to; all in PEM."""

    certificate: bytes  # and its chain
    private_key: bytes = field(repr=False)
    client_ca: bytes | None = None  # None: clients need no certificate


@dataclass(frozen=True, slots=True)
class FeedAccess:
    """Who may call a feed, and over what. By default everybody on this machine may do all.

    Raises:
        UsageError: a token that no client could send.
    """

    roles: Mapping[str, Role] = field(default_factory=dict, repr=False)  # by token
    tls: ServerTls | None = None
    proxied: bool = False  # a proxy before it ends TLS: what comes to it from elsewhere does so in the clear

    def __post_init__(self) -> None:
        for token, role in self.roles.items():
            if not (token.isascii() and token.isprintable() and token == token.strip() and token):
                raise UsageError(
                    f"a token of the role {role.name.lower()} is empty or has spaces around it, line ends or letters "
                    "beyond ASCII, which a client can't send; make one with `openssl rand -hex 32`"
                )


def check_exposure(host: str, access: FeedAccess) -> None:
    """
    Raises:
        UsageError: the host can be reached from elsewhere, and a token or TLS is missing.
    """
    private = access.tls is not None or access.proxied
    if is_loopback(host) or (access.roles and private):
        return
    missing = " and ".join(name for name, given in (("a token", access.roles), ("TLS", private)) if not given)
    raise UsageError(
        f"feed host '{host}' can be reached from outside, which needs {missing}; "
        "give both, or bind 127.0.0.1 and tunnel to it"
    )
