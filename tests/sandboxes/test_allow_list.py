"""The allow-list: which hosts it has, and which addresses may stand behind a name."""

import ipaddress

import pytest

from sandboxes.network.allow_list import AllowList, check_addresses, is_public
from sandboxes.network.http_request import Refused

ALLOWED = [
    ("pypi.org", "pypi.org", 443),
    ("pypi.org", "pypi.org", 80),
    ("PyPI.org", "pypi.org", 443),
    ("pypi.org.", "pypi.org", 443),
    ("pypi.org:8443", "pypi.org", 8443),
    ("*.pypi.org", "files.pypi.org", 443),
    ("*.pypi.org", "a.b.pypi.org", 443),
    ("127.0.0.1:8000", "127.0.0.1", 8000),
]
REFUSED = [
    ("pypi.org", "pypi.org", 22),
    ("pypi.org", "files.pypi.org", 443),
    ("pypi.org", "evilpypi.org", 443),
    ("pypi.org", "pypi.org.evil.example", 443),
    ("pypi.org:8443", "pypi.org", 443),
    ("*.pypi.org", "pypi.org", 443),
    ("*.pypi.org", "evilpypi.org", 443),
    ("*.0.0.1", "127.0.0.1", 80),
    ("127.0.0.1:8000", "127.0.0.1", 80),
    ("127.0.0.1:8000", "localhost", 8000),
]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
INTERNAL = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255", "198.18.0.1",
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a00:1::",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "host", "port"), ALLOWED)
def test_listed_hosts_are_allowed(rule: str, host: str, port: int) -> None:
    AllowList((rule,)).check(host, port)


@pytest.mark.parametrize(("rule", "host", "port"), REFUSED)
def test_other_hosts_and_ports_are_refused_by_name(rule: str, host: str, port: int) -> None:
    with pytest.raises(Refused) as refused:
        AllowList((rule, "b.example")).check(host, port)
    assert refused.value.status == 403
    assert f"{host}:{port}" in refused.value.reason
    assert f"network.hosts ({rule}, b.example)" in refused.value.reason


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_stand_behind_a_name(address: str) -> None:
    check_addresses("a.example", 80, [ipaddress.ip_address(address)])


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_may_not_in_any_guise(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_one_internal_address_among_public_ones_is_enough_to_refuse() -> None:
    found = [ipaddress.ip_address("93.184.216.34"), ipaddress.ip_address("10.0.0.1")]
    with pytest.raises(Refused, match=r"10\.0\.0\.1.*list it as") as refused:
        check_addresses("a.example", 8080, found)
    assert "'10.0.0.1:8080'" in refused.value.reason
