"""Reads files that `torch.save` wrote: tensors and plain containers.  Nothing in them is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_tensors(file: Path, *, mmap: bool = False) -> Any:
    """What a `.pt`, `.pth`, `.bin` or `.ckpt` file holds.

    Raises:
        OSError: the file is missing or may not be read
        ValueError: the file is damaged, or holds objects other than tensors and plain containers
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as reason:
        if reason.filename:  # the system's own error, which names the file
            raise
    except Exception as reason:  # a dozen types, and PyTorch's text advises to load the file unsafely
        if isinstance(reason, MemoryError) or "allocate" in str(reason):
            raise
    raise ValueError(
        f"{file} cannot be read as weights: it is damaged, or holds Python objects other than tensors, which are never run"
    )
