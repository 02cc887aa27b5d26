"""A state dict into a network, strictly: missing, extra and misshapen keys are an error with a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SHOWN = 12  # keys listed per kind; a wrong file differs in hundreds


def load_strict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, published: Callable[[str], str] = str
) -> None:
    """Make the tensors of `state` those of the model, without a copy; the model may be on the meta device.

    `published` gives the name in the file of a key of the model.

    Raises:
        ValueError: the keys or shapes are not exactly the model's; the message begins with `source`, the name of the file
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


def state_dict_of(content: Any, file: Path, *keys: str) -> dict[str, Tensor]:
    """The state dict in what `load_tensors` read: under the first of `keys` that is there, or else `content` itself.

    Raises:
        ValueError: that is no dictionary of tensors
    """
    from torch import Tensor

    nested = (content[key] for key in keys if key in content) if isinstance(content, dict) else ()
    state = next(iter(nested), content)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        places = f", by itself or under {' or '.join(map(repr, keys))}" if keys else ""
        raise ValueError(f"{file} holds no state dict{places}")
    return state
