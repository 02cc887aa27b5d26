"""Golden vectors: every `.safetensors` below the golden roots, told apart by its own metadata; and the recipe of their weights.

The roots are `tests/goldens`, and `--goldens DIR` (repeatable) with large files; by default `../shared/goldens`, if it exists.
A test of large files alone has the mark `large`; it is not collected where they are absent.  A new file of a known kind in any of
these folders becomes a test case without a line of code: a test takes every setting (depths, windows, weights, sizes, limits) from
the file's metadata, its shapes or the names of its tensors, and has none of its own.
"""

from __future__ import annotations

import filecmp
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

HERE = Path(__file__).parent
NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
COMMITTED = HERE / "goldens"
LARGE = HERE.parent.parent / "shared" / "goldens"  # optional, next to the checkout
roots: list[Path] = [COMMITTED, *([LARGE] if LARGE.is_dir() else [])]  # conftest replaces the second by --goldens


@dataclass(frozen=True)
class Golden:
    path: Path
    metadata: dict[str, str]

    def __str__(self) -> str:  # the id of the test case
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def salt(self) -> str:
        """Of the recipe's weights."""
        return self.metadata.get("weights_salt", self.metadata.get("salt", ""))

    def numbers(self, pattern: str, key: str = "what") -> tuple[float, ...]:
        """The numbers of the first match of `pattern` in the text of `key`, where `#` stands for a number."""
        match = re.search(pattern.replace("#", NUMBER), self.metadata[key])
        assert match, f"{self.path}: {key} has no {pattern}: {self.metadata[key]}"
        return tuple(float(group) for group in match.groups())

    def json(self, key: str) -> dict:
        return json.loads(self.metadata[key])

    def tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """All tensors of the file; floating ones cast to `dtype`."""
        with safe_open(self.path, "pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in found.items()}


@cache
def _all(folders: tuple[Path, ...]) -> list[Golden]:
    found: dict[tuple[str, str], list[Golden]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            namesakes = found.setdefault((path.parent.name, path.name), [])
            if any(filecmp.cmp(path, other.path, shallow=False) for other in namesakes):
                continue  # a committed copy of a shared file
            with safe_open(path, "pt") as file:
                namesakes.append(Golden(path, file.metadata() or {}))
    return [golden for namesakes in found.values() for golden in namesakes]


def clips(folder: str) -> list[Path]:
    """The files of `../clips/<folder>` beside the large goldens, sorted; none where it is absent."""
    return sorted(file for root in roots[1:] for file in (root.parent / "clips" / folder).glob("*"))


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


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[float, Tensor]:
    """Tensors whose names end in a setting, by that setting: {"hinge_0p75": x} and "hinge_" give {0.75: x}."""
    found = {
        key.removeprefix(prefix).replace("p", "."): value for key, value in tensors.items() if key.startswith(prefix)
    }
    return {float(number): value for number, value in found.items()}


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
