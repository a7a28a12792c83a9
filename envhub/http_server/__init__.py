"""An HTTP or HTTPS listener inside a running loop: what the gateway and the dashboard are served by."""

from envhub.contracts.address import is_loopback
from envhub.http_server.health import Health
from envhub.http_server.listener import Listener, listen, names_loopback, serve
from envhub.http_server.protocol import HANG_UP, OnHangUp

__all__ = ["HANG_UP", "Health", "Listener", "OnHangUp", "is_loopback", "listen", "names_loopback", "serve"]
