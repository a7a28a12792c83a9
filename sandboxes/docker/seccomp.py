"""The system call filter of sandboxes/seccomp.py in the words of container engines.

OCI runtime specification, config-linux.md, "Seccomp"; a rule's arguments as in libseccomp's seccomp_rule_add(3).
"""

import json
from functools import cache

from sandboxes.seccomp import DENIED, HIDDEN, NAMESPACE_FLAGS, SOCKET_FAMILIES, TERMINAL_INJECTIONS

EPERM, ENOSYS = 1, 38
ARCHITECTURES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]  # what is called in any other way (32 bits, x32) kills
# What engines deny by default and our list leaves to capabilities: the kernel's code behind them is kept out of reach.
ALSO_DENIED = (
    *("acct", "clock_adjtime", "clock_settime", "settimeofday", "quotactl", "swapon", "swapoff", "reboot", "vhangup"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "lookup_dcookie", "kcmp"),
    *("mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs"),
    *("fanotify_init", "process_madvise", "move_pages", "mbind", "set_mempolicy", "migrate_pages"),
)
FAMILIES = range(64)  # more than the kernel knows


@cache
def profile() -> str:
    """The filter as JSON, for an engine's security option `seccomp=`."""
    rules = [
        {"names": [*DENIED, *ALSO_DENIED], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM},
        {"names": list(HIDDEN), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        *(denied(["clone"], 0, "SCMP_CMP_MASKED_EQ", bit, bit) for bit in bits(NAMESPACE_FLAGS)),
        *(denied(["ioctl"], 1, "SCMP_CMP_MASKED_EQ", 0xFFFFFFFF, request) for request in TERMINAL_INJECTIONS),
        denied(["prlimit64"], 0, "SCMP_CMP_NE", 0),  # its own limits, not the agent's
        *(denied(["socket", "socketpair"], 0, "SCMP_CMP_EQ", one) for one in FAMILIES if one not in SOCKET_FAMILIES),
        denied(["socket", "socketpair"], 0, "SCMP_CMP_GE", FAMILIES.stop),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "syscalls": rules})


def denied(names: list[str], index: int, operator: str, value: int, second: int = 0) -> dict[str, object]:
    """A rule that holds for one value of one argument."""
    argument = {"index": index, "op": operator, "value": value, "valueTwo": second}
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [argument]}


def bits(mask: int) -> list[int]:
    return [1 << position for position in range(mask.bit_length()) if mask >> position & 1]
