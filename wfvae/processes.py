"""Which processes train one run: all that were started must train together, and no other training may use its folder."""

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
    """The rank of this process and the number of processes, as the launcher says; (0, 1) without one."""
    for rank, world in LAUNCHED:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def check_processes(seen: int) -> None:
    """ValueError unless accelerate trains with all processes that were started; else each would train the whole run."""
    started = launched()[1]
    if seen != started:
        raise ValueError(
            f"{started} processes were started, but accelerate trains with {seen}; "
            "start them with torchrun, and on a machine without a GPU set device=cpu"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other training can use `folder`.  The main process holds the lock for all processes that were launched.

    The system releases the lock when the process ends, however it ends, so a lock is never stale.

    Raises:
        ValueError: another training uses the folder
    """
    if launched()[0]:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:  # a lock of fcntl is not inherited by the processes that read clips
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            if reason.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise ValueError(
                    f"{folder} is in use by another training (process {file.read().strip() or 'unknown'}); "
                    "wait until it ends, stop it, or choose another run=DIR"
                ) from None
            warnings.warn(f"{file.name} cannot be locked ({reason.strerror}): start no second training", stacklevel=3)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
