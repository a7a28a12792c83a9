"""The filter, run by a small BPF machine, decides the same on every architecture we have numbers for."""

import struct

import pytest

from sandboxes import seccomp
from sandboxes.seccomp import ABSENT, ALLOW, AUDIT_ARCH, DENIED, DENY, HIDDEN, MACHINES, program

GETPID = {"x86_64": 39, "aarch64": 172}


def decide(machine: str, number: int, *args: int, arch: int | None = None) -> int:
    """What the kernel would return for a system call."""
    code = program(machine)
    assert code is not None
    column = AUDIT_ARCH[MACHINES[machine]] if arch is None else arch
    data = struct.pack("<IIQ6Q", number, column, 0, *args, *[0] * (6 - len(args)))
    steps = list(struct.iter_unpack("=HBBI", code))
    at, accumulator = 0, 0
    while True:
        kind, if_true, if_false, value = steps[at]
        at += 1
        if kind == seccomp.RETURN:
            return int(value)
        if kind == seccomp.LOAD:
            accumulator = struct.unpack_from("<I", data, value)[0]
            continue
        tests = {
            seccomp.EQUAL: accumulator == value,
            seccomp.AT_LEAST: accumulator >= value,
            seccomp.ANY_BIT: bool(accumulator & value),
        }
        at += if_true if tests[kind] else if_false


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_listed_calls_are_denied_and_others_pass(machine: str) -> None:
    column = MACHINES[machine]
    assert {decide(machine, numbers[column]) for numbers in DENIED.values()} == {DENY}
    assert {decide(machine, numbers[column]) for numbers in HIDDEN.values()} == {ABSENT}
    assert decide(machine, GETPID[machine]) == ALLOW


def test_arguments_decide_where_a_call_is_needed(machine: str) -> None:
    column = MACHINES[machine]
    clone, ioctl = seccomp.CLONE[column], seccomp.IOCTL[column]
    prlimit, socket = seccomp.PRLIMIT[column], seccomp.SOCKET[column]
    assert decide(machine, clone, 0x11) == ALLOW
    assert decide(machine, clone, 0x10000011) == DENY
    assert decide(machine, ioctl, 0, 0x5401) == ALLOW
    assert {decide(machine, ioctl, 0, request) for request in seccomp.TERMINAL_INJECTIONS} == {DENY}
    assert decide(machine, ioctl, 0, 0xFFFFFFFF00005412) == DENY  # the kernel reads 32 bits of it too
    assert (decide(machine, prlimit, 0), decide(machine, prlimit, 1)) == (ALLOW, DENY)
    assert {decide(machine, socket, family) for family in seccomp.SOCKET_FAMILIES} == {ALLOW}
    assert {decide(machine, socket, family) for family in (17, 38, 40)} == {DENY}


def test_calls_of_another_architecture_are_denied(machine: str) -> None:
    assert decide(machine, GETPID[machine], arch=0x40000003) == DENY  # i386


def test_x32_calls_are_absent() -> None:
    assert decide("x86_64", seccomp.X32_BIT | 321) == ABSENT


def test_unknown_machine_has_no_filter() -> None:
    assert program("riscv64") is None
