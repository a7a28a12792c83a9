"""The allow-list of a sandbox's network: which host and port may be asked for, and which addresses may stand behind."""

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sandboxes.network.http_request import Refused

DEFAULT_PORTS = frozenset({80, 443})
# Addresses that are public by their range and answer with the machine's own credentials: Azure's wire server.
METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the list."""

    text: str
    name: str
    below: bool  # any host below the name, and not the name itself
    ports: frozenset[int]

    @classmethod
    def of(cls, text: str) -> "Rule":
        name, _, port = text.lower().removeprefix("*.").partition(":")
        return cls(text, name.rstrip("."), text.startswith("*."), frozenset({int(port)}) if port else DEFAULT_PORTS)

    def allows(self, host: str, port: int) -> bool:
        return port in self.ports and (self._has_below(host) if self.below else host == self.name)

    def _has_below(self, host: str) -> bool:
        return host.endswith(f".{self.name}") and address_of(host) is None


class AllowList:
    """What `Network.hosts` lists."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._rules = tuple(map(Rule.of, hosts))

    def check(self, host: str, port: int) -> None:
        """
        Raises:
            Refused: no entry allows it.
        """
        if not any(rule.allows(host, port) for rule in self._rules):
            listed = ", ".join(rule.text for rule in self._rules)
            raise Refused(403, f"{host}:{port} is not in this sandbox's network.hosts ({listed})")


def address_of(host: str) -> Address | None:
    """The address that a host literally is."""
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def check_addresses(host: str, port: int, found: Sequence[Address]) -> None:
    """Holds what a listed name resolves to against the machine's own networks: a name's owner chooses its addresses.

    Raises:
        Refused: one of them is not public.
    """
    for address in found:
        if not is_public(address):
            way_out = f"; list it as '{address}:{port}' if it is meant" if address.version == 4 else ""
            raise Refused(403, f"{host} resolves to {address}, which is not a public address{way_out}")


def is_public(address: Address) -> bool:
    """Whether it is neither loopback, link-local, private, reserved, multicast nor a metadata service, in any guise."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast and address not in METADATA


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for (mapped, 6to4, NAT64)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour
