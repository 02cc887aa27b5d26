"""Which process this is, of how many, as the launcher (torchrun or srun) sets in the environment; and its processor cores."""

from __future__ import annotations

import os


def rank_and_world() -> tuple[int, int]:
    """The rank of this process and the number of processes, as set by torchrun or by srun.

    Both variables of a pair are required: a Slurm batch job sets some of them even if nothing was started with srun.

    Returns:
        (0, 1) without a launcher

    Raises:
        ValueError: the variables are not a rank below a world size
    """
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and world in os.environ:
            index, total = os.environ[rank], os.environ[world]
            if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
                raise ValueError(
                    f"{rank}={index!r} and {world}={total!r} are not a rank and a number of processes above it"
                )
            return int(index), int(total)
    return 0, 1


def local_rank() -> int:
    """The index of this process on its machine, which selects its GPU, as set by torchrun or srun; 0 without a launcher."""
    index = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    return int(index) if index.isdigit() else 0


def cores() -> int:
    """The number of processor cores for this process: those it may run on, divided by the processes on this machine.

    torchrun starts its processes on all cores and sets LOCAL_WORLD_SIZE; srun gives each process cores of its own.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, available // (int(processes) if processes.isdigit() and int(processes) else 1))
