"""Reads released weights: one file or shards, safetensors or a torch pickle; and `load_strict`, which loads them into a network."""

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
    """The tensors of a `.safetensors` file, or the content of a torch pickle (`.bin`, `.ckpt`, `.pt`); of all shards together.

    Raises:
        OSError: the file does not exist
        ValueError: the file does not hold a state dict
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
    state = load_tensors(path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, expected a state dict")
    return state
