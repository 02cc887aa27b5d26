"""Reads released weights: one file or shards, safetensors or a torch pickle; and `load_strict`, which puts them into a network."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vaebench.pickled import load_tensors
from vaebench.state_dicts import load_strict
from wfvae.shards import files_of

__all__ = ["load_strict", "read_state"]


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or what a torch pickle (`.bin`, `.ckpt`, `.pt`) holds; of all shards together.

    Raises OSError when there is no such file, ValueError when it holds something else.
    """
    state: dict[str, Tensor] = {}
    for part in files_of(path):
        state |= _read_file(part)
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as reason:
            raise ValueError(f"{path} cannot be read as weights: {reason}") from None
    found = load_tensors(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a state dict")
    return found
