"""The processes of a training: all launched processes train together, and no other training may use the folder of the run."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LAUNCHED = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))  # by torchrun, by srun


def launched() -> tuple[int, int]:
    """The rank of this process and the number of processes, from the launcher's environment; (0, 1) without a launcher."""
    for rank, world in LAUNCHED:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def check_processes(seen: int) -> None:
    """Checks that accelerate trains with all processes that were started; otherwise each would train the run by itself.

    Raises:
        ValueError: `seen`, the number of processes of accelerate, is not that of the launcher
    """
    started = launched()[1]
    if seen != started:
        raise ValueError(
            f"{started} processes were started, but accelerate trains with {seen}; "
            "start them with torchrun, and on a machine without a GPU set device=cpu"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks the folder of a run; the main process holds the lock for all processes that were launched.

    The operating system releases the lock when the process ends, even if it is killed, so a lock is never stale.

    Raises:
        ValueError: another training uses the folder
    """
    if launched()[0]:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:  # workers that read clips do not inherit a lock of fcntl
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            if reason.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise ValueError(
                    f"{folder} is in use by another training (process {file.read().strip() or 'unknown'}); "
                    "wait until it ends, stop it, or choose another run=DIR"
                ) from None
            warnings.warn(
                f"{file.name} cannot be locked ({reason.strerror}): do not start a second training here", stacklevel=3
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def alive(pid: int) -> bool:
    """Whether a process with this id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        pass
    return True
