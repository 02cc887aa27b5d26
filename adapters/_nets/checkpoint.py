"""Released weights into a network, strictly: missing, extra and misshapen keys are an error with a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vaebench.pickled import load_tensors
from wfvae.shards import files_of

SHOWN = 12  # keys listed per kind; a wrong file differs in hundreds


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


def load_strict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, published: Callable[[str], str] = str
) -> None:
    """Makes the tensors of `state` the model's own, without a copy; the model may be on the meta device.

    `published` gives the name in the file of a key of the model.  Raises ValueError that begins with `source`,
    the name of the file, unless exactly the model's keys and shapes are there.
    """
    names = {published(key): key for key in model.state_dict()}
    wanted = {published(key): tuple(value.shape) for key, value in model.state_dict().items()}
    given = {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}  # a pickle holds anything
    problems = {
        "missing": [key for key in wanted if key not in given],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": [
            f"{key} {given[key]}, expected {shape}" for key, shape in wanted.items() if given.get(key, shape) != shape
        ],
    }
    lines = []
    for kind, keys in problems.items():
        if keys:
            more = f" ... and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            lines.append(f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}{more}")
    if lines:
        raise ValueError(f"{source} does not fit {type(model).__name__}: {'; '.join(lines)}")
    model.load_state_dict({names[key]: value for key, value in state.items()}, assign=True)
