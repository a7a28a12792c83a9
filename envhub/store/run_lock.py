"""run_lock: a run belongs to the process that runs it, until that process is gone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.store.database import database_path


@contextmanager
def run_lock(database: str, run_id: RunId) -> Iterator[None]:
    """Holds the run within. The system lets it go when the process ends, however it ends.

    Raises:
        UsageError: another process holds it.
    """
    path = Path(f"{database_path(database)}.{run_id}.lock")
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(f"run '{run_id}' is still running, in process {file.read()}; end that one first") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
