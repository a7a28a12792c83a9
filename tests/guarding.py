"""Guards for tests, and acts that a list keeps."""

from collections.abc import Mapping

from envhub.contracts.access import Access, Rates, Role, TlsFiles, Token
from envhub.contracts.events import OperatorActed
from envhub.contracts.guard import Guard
from envhub.contracts.ids import RunId
from envhub.monitor.acts import Acts

MANY = Rates(failure=1e6)  # for tests that guess


def access(
    roles: Mapping[str, Role], tls: TlsFiles | None = None, *, proxied: bool = False, rates: Rates = MANY
) -> Access:
    """Of tokens by their secrets."""
    return Access(tuple(Token(secret, role) for secret, role in roles.items()), tls, proxied, rates)


def guard(roles: Mapping[str, Role], tls: TlsFiles | None = None, *, proxied: bool = False) -> Guard:
    return Guard(access(roles, tls, proxied=proxied))


def acts_into(kept: list[OperatorActed], guard: Guard | None = None, run_id: str = "demo") -> Acts:
    async def record(act: OperatorActed) -> None:
        kept.append(act)

    return Acts(RunId(run_id), record, guard or Guard())
