"""The reset of a used sandbox: all of the last holder is removed, and the sandbox itself is asked whether it was."""

from envhub.contracts.command import ExecRequest
from envhub.contracts.sandbox import Sandbox, Snapshot
from sandboxes.pool.made import Made

CLEAN = b"clean\n"
ASK_S = 5.0
# Built-ins of the shell alone, which lies on a read-only file system: nothing that a holder left is run. What restore()
# does not reach, and a process is not needed to keep: other places to write, and System V's shared memory.
QUESTION = """
for place in . "${TMPDIR:-/tmp}" /tmp /dev/shm; do
  [ -d "$place" ] || continue
  [ -r "$place" ] && [ -w "$place" ] && [ -x "$place" ] || { echo "$place is locked"; exit 1; }
  for name in "$place"/* "$place"/.[!.]* "$place"/..?*; do
    if [ -e "$name" ] || [ -L "$name" ]; then echo "$name is left"; exit 1; fi
  done
done
for kind in shm sem msg; do
  [ -e /proc/sysvipc/$kind ] || continue
  { read -r title; if read -r left; then echo "$kind is left"; exit 1; fi; } < /proc/sysvipc/$kind || exit 1
done
echo clean
"""


async def reset(made: Made, empty: Snapshot) -> bool:
    """Whether nothing is left of the last holder. One that is not clean must be destroyed.

    Raises:
        SandboxFault: it died.
    """
    await made.sandbox.end_processes()
    await made.sandbox.restore(empty)
    return await idle_pids(made.sandbox) == made.idle_pids


async def idle_pids(sandbox: Sandbox) -> int:
    """How many processes a clean sandbox has; -1 where something is left in one of the places to write.

    Raises:
        SandboxFault: it died.
    """
    answer = await sandbox.exec(ExecRequest(("/bin/sh", "-c", QUESTION), timeout_s=ASK_S))
    clean = answer.exit_code == 0 and answer.stdout == CLEAN
    return (await sandbox.stats()).pids if clean else -1
