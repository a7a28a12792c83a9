"""ZygotePlace: a sandbox that is forked, as the host holds it: before the fork, while it lives, and at its end."""

import os
import signal
import socket
from contextlib import ExitStack, suppress
from functools import partial

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import SandboxSpec, SandboxStats
from sandboxes import cgroups
from sandboxes.cgroup import Cgroup
from sandboxes.inside.files import remove_tree
from sandboxes.inside.zygote_request import Request
from sandboxes.inside.zygote_root import SOCKETS
from sandboxes.layers import Layer
from sandboxes.place import Sockets
from sandboxes.privileges import lease_uid
from sandboxes.root_view import USER, WORKDIR
from sandboxes.state import state
from sandboxes.threads import in_thread
from sandboxes.zygote.parent import ZygoteParent

MB = 1 << 20
MESSAGE_BYTES = 4096
HANDING_OVER = (NetworkMode.GATEWAY, NetworkMode.HOSTS)  # ports, through a folder of the host


class ZygotePlace:
    """A Place. Its end is the end of pid 1 of its namespace, with which the kernel kills all the others at once."""

    workdir = WORKDIR
    socket: socket.socket  # the host's end, once it is prepared

    def __init__(self, backend: str, spec: SandboxSpec, layer: Layer | None, parent: ZygoteParent) -> None:
        """
        Raises:
            UsageError: the layer is closed.
        """
        self.id = state().new_id()
        self.backend = backend
        self.spec = spec
        self.uid = layer.uid if layer else lease_uid()  # a fork must own the files that it starts from
        self.group: Cgroup | None = None
        self.sockets: Sockets | None = None
        if layer:
            layer.hold()
        self.tells_ooms = False  # to the agent, at descriptor OOMS
        self._layer = layer
        self._parent = parent  # must not be collected first: it would take this sandbox along
        self._pidfd: int | None = None
        self._over = anyio.Lock()
        self._descriptors = ExitStack()

    def prepare(self) -> None:
        """Makes what lies on the host. May block.

        Raises:
            OSError: too many descriptors are open.
            SandboxFault: no cgroup could be made though this machine allows them.
        """
        self.socket, self._theirs = map(self._descriptors.enter_context, socket.socketpair())
        reading, writing = os.pipe()
        self._messages = self._descriptors.enter_context(os.fdopen(reading, "rb", buffering=0))
        self._complaints = self._descriptors.enter_context(os.fdopen(writing, "wb", buffering=0))
        os.set_blocking(reading, False)
        self.group = cgroups.make(self.spec, self.id)
        if self.spec.network.mode in HANDING_OVER:
            folder = state().place(self.id) / "sockets"
            folder.mkdir()
            folder.chmod(0o711)  # the agent, another user, passes through; nobody lists it
            self.sockets = Sockets(folder, SOCKETS)

    async def fork(self) -> None:
        """
        Raises:
            SandboxFault: the zygote could not fork.
        """
        with ExitStack() as passed_on:
            passed_on.enter_context(self._theirs)
            passed_on.enter_context(self._complaints)
            fds = [self._theirs.fileno(), self._complaints.fileno()]
            if self.group:
                ooms = self.group.open_ooms()
                self.tells_ooms = ooms is not None
                groups = [*([] if ooms is None else [ooms]), *self.group.open_procs()]
                for fd in groups:
                    passed_on.callback(os.close, fd)
                fds += groups
            self._pidfd = await self._parent.fork(self._request(), fds)

    def messages(self) -> str:
        return (self._messages.read(MESSAGE_BYTES) or b"").decode(errors="replace").strip()

    def stats(self) -> SandboxStats | None:
        return self.group.stats() if self.group else None

    async def end(self) -> None:
        async with self._over:
            if self._pidfd is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                await anyio.wait_readable(self._pidfd)
                os.close(self._pidfd)
                self._pidfd = None
            self._descriptors.close()
            if self.group:
                await self.group.remove()
            if self.sockets:
                await in_thread(partial(remove_tree, str(self.sockets.host.parent)))
            if self._layer:
                layer, self._layer = self._layer, None
                await layer.release()

    def _request(self) -> Request:
        shared = state().folder("layers").parent
        layer = str(self._layer.folder.relative_to(shared)) if self._layer else ""
        sockets = str(self.sockets.host.relative_to(shared)) if self.sockets else ""
        return Request(USER if self.uid is None else self.uid, self.spec.disk_mb * MB, layer, sockets, self.tells_ooms)
