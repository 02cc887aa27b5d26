"""Peak memory of WF-VAE on a GPU for each size of its windows, by arithmetic: the live tensors on PyTorch's meta device.

    python tests/benchmarks/wfvae_windows.py [--widths L S] [--shapes 33x256 33x512 33x768] [--output FILE.json]

The meta device runs the code path of a GPU and computes nothing, so no GPU is needed.  Not included: the workspace of cuDNN, the
fragmentation of the allocator, and the weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from wfvae import WFVAE, WFVAEConfig, blocks

WIDTHS = {"S": 128, "M": 160, "L": 192}
GIB = 2**30


class LiveBytes(TorchDispatchMode):
    """The bytes of all storages that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: Any) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        nbytes = storage.nbytes()
        self.now += nbytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, nbytes)

    def _free(self, nbytes: int) -> None:
        self.now -= nbytes


def peaks(model: WFVAE, frames: int, size: int, dtype: torch.dtype) -> dict[str, float]:
    """The peak of encode and of decode in GiB, weights not included."""
    video = torch.empty(1, 3, frames, size, size, device="meta", dtype=dtype)
    found = {}
    with torch.no_grad():
        latent = model.encode(video).mean
        for name, call in (("encode", lambda: model.encode(video)), ("decode", lambda: model.decode(latent))):
            with LiveBytes() as live:
                call()
            found[f"{name}_gib"] = live.peak / GIB
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", default=["L", "S"], choices=list(WIDTHS))
    parser.add_argument("--shapes", nargs="+", default=["33x256", "33x512", "33x768"])
    parser.add_argument("--windows", nargs="+", type=int, default=[22, 23, 24, 25, 26, 27], help="log2 of the elements")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for width in arguments.widths:
        with torch.device("meta"):
            model = WFVAE(WFVAEConfig(base_channels=WIDTHS[width], latent_channels=16)).to(
                getattr(torch, arguments.dtype)
            )
        model.eval().requires_grad_(False)
        for shape in arguments.shapes:
            frames, size = map(int, shape.split("x"))
            for exponent in arguments.windows:
                blocks.WINDOW["cuda"] = 2**exponent
                row = {
                    "width": width,
                    "shape": shape,
                    "window": f"2^{exponent}",
                    **peaks(model, frames, size, getattr(torch, arguments.dtype)),
                }
                rows.append(row)
                print(
                    " ".join(
                        f"{name}={value:.2f}" if isinstance(value, float) else f"{value}" for name, value in row.items()
                    )
                )
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"benchmark": "wfvae_windows", "dtype": arguments.dtype, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
