"""Strict loading of state dicts: the error lists missing keys, unexpected keys and wrong shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SHOWN = 12  # keys listed per kind of mismatch; a wrong file can have hundreds


def load_strict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, published: Callable[[str], str] = str
) -> None:
    """Assign the tensors of `state` to the model without copying them.

    Args:
        model: the network; it may be on the meta device
        state: name -> tensor, as in the file
        source: name of the file, for messages
        published: maps a key of the model to its name in the file

    Raises:
        ValueError: the keys or shapes of `state` differ from those of the model
    """
    names = {published(key): key for key in model.state_dict()}
    expected = {published(key): tuple(value.shape) for key, value in model.state_dict().items()}
    given = {
        key: tuple(getattr(value, "shape", ())) for key, value in state.items()
    }  # a pickle may contain other objects
    problems = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of another shape": [
            f"{key} {given[key]}, expected {shape}" for key, shape in expected.items() if given.get(key, shape) != shape
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
    """The state dict in the content of a checkpoint.

    Args:
        content: the return value of `load_tensors`
        file: the path, for messages
        keys: keys under which the state dict may be nested; the first that exists is used, else `content` itself

    Raises:
        ValueError: it is not a dictionary of tensors
    """
    from torch import Tensor

    nested = (content[key] for key in keys if key in content) if isinstance(content, dict) else ()
    state = next(iter(nested), content)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        places = f", at the top level or under {' or '.join(map(repr, keys))}" if keys else ""
        raise ValueError(f"{file} holds no state dict: expected names with tensors{places}")
    return state
