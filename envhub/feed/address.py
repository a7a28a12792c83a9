"""What the two ends must agree on about addresses."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether the host can be reached from this machine only. A name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
