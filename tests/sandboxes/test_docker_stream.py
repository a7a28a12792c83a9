"""What a container writes reaches the channel as it was written, however the engine cuts it; the filter for engines."""

import json
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes import seccomp
from sandboxes.docker import stream as docker_stream
from sandboxes.docker.seccomp import bits, profile
from sandboxes.docker.stream import Unframed, agent_modules, boot_argv
from sandboxes.host.channel import Channel

PARTS = st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=40)), max_size=12)


class Kept(Channel):
    """A channel that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


@given(PARTS, st.lists(st.integers(1, 30)))
def test_streams_are_told_apart_wherever_the_engine_cuts(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(struct.pack(">BxxxI", stream, len(data)) + data for stream, data in parts)
    channel = Kept()
    unframed = Unframed(channel)
    for cut in cuts:
        unframed.data_received(wire[:cut])
        wire = wire[cut:]
    unframed.data_received(wire)
    assert channel.data == b"".join(data for stream, data in parts if stream == 1)
    assert unframed.messages == b"".join(data for stream, data in parts if stream == 2)


def test_endless_messages_are_not_kept() -> None:
    unframed = Unframed(Channel())
    for _ in range(10):
        unframed.data_received(struct.pack(">BxxxI", 2, 1000) + bytes(1000))
    assert len(unframed.messages) == 4096


def test_agent_starts_from_what_comes_over_stdin() -> None:
    with subprocess.Popen(
        [sys.executable, *boot_argv()[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as agent:
        output, errors = agent.communicate(agent_modules(), timeout=20)
    assert (output, errors) == (b"", b"")  # it ended because the host did, not before


def test_a_host_that_closes_too_early_leaves_no_agent_behind() -> None:
    for sent in (b"", agent_modules()[:100], agent_modules()[:5000]):
        done = subprocess.run([sys.executable, *boot_argv()[1:]], input=sent, capture_output=True, timeout=20)
        assert done.returncode == 1


def test_a_host_that_never_speaks_leaves_no_agent_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_stream, "BOOT_S", 0.1)
    with subprocess.Popen([sys.executable, *boot_argv()[1:]], stdin=subprocess.PIPE) as agent:
        assert agent.wait(20) == 1


def test_profile_denies_what_our_filter_denies() -> None:
    rules = json.loads(profile())["syscalls"]
    unconditional = {name for rule in rules if "args" not in rule for name in rule["names"]}
    assert {*seccomp.DENIED, *seccomp.HIDDEN} <= unconditional
    assert not unconditional & {"clone", "ioctl", "prlimit64", "socket", "mknodat"}  # in part only, or needed
    families = {rule["args"][0]["value"] for rule in rules if rule["names"][0] == "socket"}
    assert not families & set(seccomp.SOCKET_FAMILIES)
    assert all(json.dumps(rule).count("SCMP_ACT_ERRNO") == 1 for rule in rules)


def test_bits_of_a_mask_are_all_there() -> None:
    assert bits(0b1010) == [2, 8]
    assert sum(bits(seccomp.NAMESPACE_FLAGS)) == seccomp.NAMESPACE_FLAGS
