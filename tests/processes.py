"""Two processes of one training or metric: forked from a server that imports torch once for all of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

# torch imports `_dynamo`, which takes seconds, in the first optimizer step of each process
PRELOADED = ["pytest", "torch._dynamo", "torch.distributed", "accelerate", "wfvae.trainer"]


def run_two(function: Callable[..., None], *arguments: Any) -> None:
    """Calls function(rank, *arguments) in two processes, and raises what one of them raises.

    Not forked from this process: autograd cannot be used in a fork of a process that used it.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)  # no effect once the server runs
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")
