"""Load files written by `torch.save`: tensors and plain containers only; code in the file is never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_tensors(file: Path, *, mmap: bool = False) -> Any:
    """Load the content of a `.pt`, `.pth`, `.bin` or `.ckpt` file.

    Raises:
        OSError: the file is missing or cannot be opened
        ValueError: the file is damaged, or contains objects other than tensors and plain containers
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as reason:
        if reason.filename:  # an error of the operating system, which names the file
            raise
    except Exception as reason:  # of many types, and PyTorch's message recommends unsafe loading
        if isinstance(reason, MemoryError) or "allocate" in str(reason):
            raise
    raise ValueError(
        f"{file} cannot be read as weights: it is damaged, or contains Python objects other than tensors (never executed)"
    )
