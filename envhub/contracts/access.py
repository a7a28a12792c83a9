"""Access: who may ask the servers of a run for what, over what, and how often."""

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum

from envhub.contracts.address import is_loopback
from envhub.errors import UsageError

SHORTEST = 16  # letters of a token that others may guess at
MAKE_ONE = "make one with `openssl rand -hex 32`"


class Role(StrEnum):
    """What a token opens."""

    VIEWER = "viewer"  # looks
    AGENT = "agent"  # opens rollouts at the gateway, and plays them
    TRAINER = "trainer"  # looks, takes groups, submits others, announces versions
    OPERATOR = "operator"  # does all of that, and steers the run

    def may(self, needed: "Role") -> bool:
        """Whether it may do what takes a token of the other role."""
        return needed in _MAY[self]


_MAY = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.AGENT: frozenset({Role.AGENT}),
    Role.TRAINER: frozenset({Role.VIEWER, Role.TRAINER}),
    Role.OPERATOR: frozenset(Role),
}


@dataclass(frozen=True, slots=True)
class Token:
    """What a caller proves its role with.

    Raises:
        UsageError: no client could send it.
    """

    secret: str = field(repr=False)
    role: Role
    name: str = ""  # whose it is, in the log of acts; "": the role's

    def __post_init__(self) -> None:
        if not (self.secret.isascii() and self.secret.isprintable() and self.secret and " " not in self.secret):
            raise UsageError(
                f"a token of the role {self.role} is empty or has spaces, line ends or letters beyond ASCII, which a "
                f"client can't send; {MAKE_ONE}"
            )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a server proves itself with, in PEM. They may change while it serves."""

    certificate: str  # and its chain
    private_key: str
    client_ca: str = ""  # who vouches for the feed's clients; "": they need no certificate


@dataclass(frozen=True, slots=True)
class Rates:
    """How many a second one caller may do, on average. Of ten seconds' worth, or ten, at once.

    Raises:
        UsageError: one that lets nothing through.
    """

    control: float = 10.0  # acts that steer the run
    submit: float = 500.0  # groups, from a trainer
    session: float = 50.0  # rollouts that are opened at the gateway
    failure: float = 0.2  # wrong tokens from one address

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise UsageError(f"rate {one.name} is {getattr(self, one.name)}; it must be above 0, a second")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask, and over what. By default everybody on this machine may do all.

    Raises:
        UsageError: one token for two roles, or TLS that somebody else ends.
    """

    tokens: tuple[Token, ...] = ()
    tls: TlsFiles | None = None
    proxied: bool = False  # a proxy before the servers ends TLS: what comes to them from elsewhere does so in the clear
    rates: Rates = Rates()

    def __post_init__(self) -> None:
        if self.tls and self.proxied:
            raise UsageError("a proxy that ends TLS and a certificate of the servers' own exclude each other; give one")
        for secret, times in Counter(token.secret for token in self.tokens).items():
            if times > 1:
                names = " and ".join(sorted(token.role for token in self.tokens if token.secret == secret))
                raise UsageError(f"one token is given twice, for {names}; give each a token of its own")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as a server can tell."""

    role: Role | None  # None: nobody's token, or none
    address: str  # that it called from
    name: str = ""  # of its token; "": it sent none that we know

    @property
    def who(self) -> str:
        return self.name or self.address


def check_exposure(server: str, host: str, access: Access) -> None:
    """
    Raises:
        UsageError: the host can be reached from elsewhere, and a token or TLS is missing, or a token easily guessed.
    """
    if is_loopback(host):
        return
    private = access.tls is not None or access.proxied
    missing = " and ".join(name for name, given in (("a token", access.tokens), ("TLS", private)) if not given)
    if missing:
        raise UsageError(
            f"{server} host '{host}' can be reached from outside, which needs {missing}; "
            "give both, or bind 127.0.0.1 and tunnel to it"
        )
    for token in access.tokens:
        if len(token.secret) < SHORTEST:
            raise UsageError(
                f"a token of the role {token.role} has {len(token.secret)} letters, and {server} host '{host}' can be "
                f"reached from outside, where it takes {SHORTEST} or more; {MAKE_ONE}"
            )
