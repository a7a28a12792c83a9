"""A container engine's HTTP API over its unix socket, as far as the reaper needs it: on the standard library alone."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import quote

ANSWER_S = 30.0


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self._path)


class Engine:
    """Docker's or Podman's (Docker Engine API, SystemPing, ContainerList and ContainerDelete)."""

    def __init__(self, path: str) -> None:
        self._path = path

    def api_version(self) -> str:
        """The newest version of the API that it speaks. Podman's own answer to that question takes it half a second: it
        asks the package manager for the versions of all that it consists of.

        Raises:
            OSError: the engine does not answer.
        """
        return self._ask("GET", "/_ping")[0].getheader("Api-Version", "auto")

    def remove_labelled(self, label: str) -> int:
        """Removes the containers with that label, running or not; returns how many there were. An engine that was
        killed may list some that it does not know any more.

        Raises:
            OSError: the engine does not answer.
        """
        chosen = quote(json.dumps({"label": [label]}))
        found = json.loads(self._ask("GET", f"/containers/json?all=1&filters={chosen}")[1])
        paths = [f"/containers/{container['Id']}?force=1&v=1" for container in found]
        return sum(self._ask("DELETE", path)[0].status != HTTPStatus.NOT_FOUND for path in paths)

    def _ask(self, method: str, path: str) -> tuple[HTTPResponse, bytes]:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except HTTPException as error:
            raise OSError(f"{self._path} does not speak HTTP") from error
        finally:
            connection.close()
        if method == "GET" and answer.status != HTTPStatus.OK:  # a container that is gone or going is fine
            raise OSError(f"{self._path} answers {answer.status}")
        return answer, body
