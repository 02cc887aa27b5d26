"""SSIM of a clip and the resampling of Fréchet distances, now and at an earlier commit: processor seconds, one thread.

    python tests/benchmarks/before_after.py [--commit 027d359] [--repeats 7] [--output results/benchmarks/before_after.json]

Both run in turn in one process, in the other order every other time, and each ratio is of a pair of neighbours; the median
ratio is the figure on a machine that others use.  The largest difference of the values stands beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.metrics import clip
from vaebench import machine

ROOT = Path(__file__).resolve().parents[2]
SETS = ((256, 400), (2048, 400), (256, 1408), (2048, 1408))  # rows, features: I3D's and VideoMAE's


def load(path: str, commit: str = "") -> ModuleType:
    """A module of this checkout, or of its text at `commit`."""
    with tempfile.TemporaryDirectory() as folder:
        file = ROOT / path
        if commit:
            file = Path(folder) / "before.py"
            file.write_bytes(subprocess.check_output(["git", "show", f"{commit}:{path}"], cwd=ROOT))
        spec = importlib.util.spec_from_file_location(f"{file.stem}_{commit}", file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def features(rows: int, width: int, seed: int) -> NDArray[np.float64]:
    """Gaussian (rows, width) whose covariance has eigenvalues over three decades."""
    return np.random.default_rng(seed).standard_normal((rows, width)) * np.logspace(0, -1.5, width)


def compare(now: Callable[[], NDArray], before: Callable[[], NDArray], repeats: int) -> dict[str, object]:
    new, old = now(), before()  # warm
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for i in range(repeats):
        for name, run in (("before", before), ("now", now))[:: -1 if i % 2 else 1]:
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(seconds["before"], seconds["now"], strict=True)]
    return {
        "processor_s": {name: statistics.median(times) for name, times in seconds.items()},
        "before_over_now": statistics.median(ratios),
        "ratios": ratios,
        "largest_difference": float(np.abs(new - old).max()),
        "largest_relative_difference": float((np.abs(new - old) / np.abs(old)).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="027d359")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--resamples", type=int, default=2)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, object]] = {}

    def measure(name: str, now: Callable[[], NDArray], before: Callable[[], NDArray]) -> None:
        found[name] = compare(now, before, args.repeats)
        print(name, json.dumps({key: value for key, value in found[name].items() if key != "ratios"}), flush=True)

    old, new = (load("vaebench/metrics/ssim.py", commit).build("cpu") for commit in (args.commit, ""))
    a, b = clip(33, 256)
    measure("ssim 33x256x256", lambda: new.by_frame(a, b).numpy(), lambda: old.by_frame(a, b).numpy())
    was, now = (load("vaebench/features/frechet.py", commit) for commit in (args.commit, ""))
    for rows, width in SETS:
        real = features(rows, width, 0)
        for kind, fake in (
            ("apart", features(rows, width, 1)),
            ("paired", 0.97 * real + 0.03 * features(rows, width, 2)),
        ):
            ways = [
                lambda m=m, real=real, fake=fake, paired=kind == "paired": m.bootstrap(
                    real, fake, paired=paired, resamples=args.resamples
                )
                for m in (now, was)
            ]
            measure(f"bootstrap {rows}x{width} {kind}", *ways)
    if args.output:
        record = {
            "benchmark": "before_after",
            "before": args.commit,
            "threads": 1,
            "repeats": args.repeats,
            "resamples": args.resamples,
            "results": found,
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
        }
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
