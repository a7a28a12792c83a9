"""The system call filter: a classic BPF program against what namespaces and dropped capabilities leave reachable.

seccomp(2), "struct seccomp_data"; the numbers are those of the kernel's asm/unistd_64.h and asm-generic/unistd.h.
"""

import errno
import platform
import struct
from collections.abc import Sequence

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ, JGE, JSET, BPF_RET
NUMBER_AT, ARCH_AT, ARGS_AT = 0, 4, 16  # offsets in struct seccomp_data; both machines are little-endian

ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS  # the C library falls back

X32_BIT = 0x40000000  # x86_64's second table of system calls would pass by ours
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TERMINAL_INJECTIONS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
SOCKET_FAMILIES = (
    1,
    2,
    10,
    16,
)  # unix, inet, inet6, netlink; vsock would reach a hypervisor past the network namespace

# One column a machine: AUDIT_ARCH, then system call numbers.
MACHINES = {"x86_64": 0, "aarch64": 1}
AUDIT_ARCH = (0xC000003E, 0xC00000B7)
DENIED = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    # Memory that no process holds mapped escapes the memory watch.
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
HIDDEN = {
    "clone3": (435, 435),  # its flags lie behind a pointer, out of a filter's reach
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
CLONE, IOCTL, PRLIMIT, SOCKET, SOCKETPAIR = (56, 220), (16, 29), (302, 261), (41, 198), (53, 199)


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def on_call(number: int, body: Sequence[bytes]) -> list[bytes]:
    """Runs `body`, which must return, when the system call is that one."""
    return [instruction(EQUAL, number, 0, len(body)), *body]


def by_argument(index: int, values: Sequence[int], listed: int, others: int) -> list[bytes]:
    """Returns `listed` when the argument (its low 32 bits) is one of `values`, else `others`."""
    load = instruction(LOAD, ARGS_AT + 8 * index)
    last = len(values) - 1
    tests = [instruction(EQUAL, value, last - i, 1 if i == last else 0) for i, value in enumerate(values)]
    return [load, *tests, instruction(RETURN, listed), instruction(RETURN, others)]


def program(machine: str) -> bytes | None:
    """The filter for a machine as `platform.machine()` names it, ready for bwrap --seccomp; None where we have none."""
    column = MACHINES.get(machine)
    if column is None:
        return None
    code = [
        instruction(LOAD, ARCH_AT),
        instruction(EQUAL, AUDIT_ARCH[column], 1, 0),
        instruction(RETURN, DENY),
        instruction(LOAD, NUMBER_AT),
    ]
    if machine == "x86_64":
        code += [instruction(AT_LEAST, X32_BIT, 0, 1), instruction(RETURN, ABSENT)]
    for numbers in DENIED.values():
        code += on_call(numbers[column], [instruction(RETURN, DENY)])
    for numbers in HIDDEN.values():
        code += on_call(numbers[column], [instruction(RETURN, ABSENT)])
    new_namespace = [
        instruction(LOAD, ARGS_AT),
        instruction(ANY_BIT, NAMESPACE_FLAGS, 0, 1),
        instruction(RETURN, DENY),
        instruction(RETURN, ALLOW),
    ]
    code += on_call(CLONE[column], new_namespace)
    code += on_call(IOCTL[column], by_argument(1, TERMINAL_INJECTIONS, DENY, ALLOW))
    code += on_call(PRLIMIT[column], by_argument(0, (0,), ALLOW, DENY))  # its own limits, not the agent's
    for family_of in (SOCKET, SOCKETPAIR):
        code += on_call(family_of[column], by_argument(0, SOCKET_FAMILIES, ALLOW, DENY))
    return b"".join([*code, instruction(RETURN, ALLOW)])


def host_program() -> bytes | None:
    """The filter for this machine."""
    return program(platform.machine())
