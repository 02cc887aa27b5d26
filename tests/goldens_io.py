"""Golden vectors: every `.safetensors` below the golden roots, told apart by its own metadata; and the recipe of their weights.

The roots are `--goldens DIR` (repeatable) or, without it, `tests/goldens` and the optional `../shared/goldens` beside the checkout.
A new file of a known kind in any of these folders becomes a test case without a line of code.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

HERE = Path(__file__).parent
DEFAULT_ROOTS = (HERE / "goldens", HERE.parent.parent / "shared" / "goldens")
roots: list[Path] = [root for root in DEFAULT_ROOTS if root.is_dir()]  # conftest replaces it from --goldens


@dataclass(frozen=True)
class Golden:
    path: Path
    metadata: dict[str, str]

    def __str__(self) -> str:  # the id of the test case
        return f"{self.path.parent.name}/{self.path.stem}"

    def json(self, key: str) -> dict:
        return json.loads(self.metadata[key])

    def tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """All tensors of the file; floating ones cast to `dtype`."""
        with safe_open(self.path, "pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in found.items()}


@cache
def _all(folders: tuple[Path, ...]) -> list[Golden]:
    found: dict[tuple[str, str], Golden] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            with safe_open(path, "pt") as file:
                golden = Golden(path, file.metadata() or {})
            found.setdefault((path.parent.name, path.name), golden)  # a committed copy wins over the shared one
    return list(found.values())


def goldens(keep: Callable[[dict[str, str]], bool]) -> list[Golden]:
    """The golden files whose metadata `keep` accepts, in a stable order."""
    return sorted((g for g in _all(tuple(roots)) if keep(g.metadata)), key=str)


def in_precisions(files: list[Golden], small: int = 20_000) -> list[tuple[Golden, torch.dtype]]:
    """Every file in float32; in float64, whose convolutions are slow, the committed ones and those of `small` values at most."""
    found = []
    for golden in files:
        with safe_open(golden.path, "pt") as file:
            values = math.prod(file.get_slice("x").get_shape())
        if values <= small or HERE in golden.path.parents:
            found.append((golden, torch.float64))
        found.append((golden, torch.float32))
    return found


def manifests(pattern: str) -> list[Path]:
    """The `*.json` files below the roots whose path ends with `pattern`, one per file name."""
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.rglob(pattern)):
            found.setdefault(path.name, path)
    return list(found.values())


def draw(key: str, shape: tuple[int, ...] | list[int], salt: str = "") -> Tensor:
    """One float32 weight of the goldens' recipe, from its key and shape alone (goldens/README.md).

    randn from a generator seeded with crc32(salt + key); >= 2-D divided by sqrt(fan_in), norm scales 1 + 0.1 r, the rest 0.02 r.
    """
    generator = torch.Generator().manual_seed(zlib.crc32((salt + key).encode()))
    r = torch.randn(tuple(shape), generator=generator)
    if len(shape) >= 2:
        return r * (1.0 / math.sqrt(math.prod(shape[1:])))
    return 1.0 + 0.1 * r if key.endswith("weight") else 0.02 * r


def rebuild(state: Mapping[str, Tensor], salt: str = "", keep: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A state dict with the recipe's values; keys that contain one of `keep` stay as they were constructed.

    BatchNorm statistics always stay.  The dtype of each entry of `state` is kept.
    """
    keep = (*keep, "running_mean", "running_var", "num_batches_tracked")
    return {
        key: value if any(part in key for part in keep) else draw(key, value.shape, salt).to(value.dtype)
        for key, value in state.items()
    }
