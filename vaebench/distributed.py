"""Which process this is, of how many, as the launcher (torchrun or srun) sets in the environment."""

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
