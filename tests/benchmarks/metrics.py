"""The metrics that need no network, on one clip: processor seconds here, and of SSIM in other libraries, side by side.

    python tests/benchmarks/metrics.py [--frames 33] [--size 256] [--threads 1] [--repeats 5] [--official PATH]
        [--output FILE.json]

PATH is a checkout of github.com/PKU-YuanGroup/WF-VAE, whose SSIM needs opencv-python-headless; it is left out otherwise.
Runs alternate after one warm-up each; medians of processor time are reported, the steadier figure on a machine that
others use.  Beside each time stands what the scorer gave, so that a fast wrong one would be seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine
from vaebench.metrics import flicker, psnr, psnr_pooled, ssim
from vaebench.video import to_model, to_score


def clip(frames: int, size: int) -> tuple[Tensor, Tensor]:
    """A smooth moving reference and a noisy reconstruction, both (1, 3, T, H, W) in 0..1 on the 8-bit grid."""
    generator = torch.Generator().manual_seed(0)
    t, y, x = (torch.arange(n, dtype=torch.float32) for n in (frames, size, size))
    phase = 0.3 * t[:, None, None] + 0.11 * y[:, None] + 0.07 * x
    stored = torch.stack([(phase * k).sin().mul(127).add(128) for k in (1.0, 1.7, 2.9)]).to(torch.uint8)
    reference = to_model(stored)[None]
    return to_score(reference), to_score(reference + 0.05 * torch.randn(reference.shape, generator=generator))


def here(module: ModuleType) -> Callable[[Tensor, Tensor], float]:
    metric = module.build("cpu")
    return lambda a, b: float(metric.measure(a, b))


def scikit_image(a: Tensor, b: Tensor) -> float:
    from skimage.metrics import structural_similarity

    return float(np.mean([
        structural_similarity(
            x.double().numpy(), y.double().numpy(), channel_axis=0, data_range=1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(a[0].unbind(1), b[0].unbind(1), strict=True)
    ]))  # fmt: skip


def torchmetrics(a: Tensor, b: Tensor) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = a[0].transpose(0, 1), b[0].transpose(0, 1)  # (T, 3, H, W)
    return float(structural_similarity_index_measure(x, y, data_range=1.0))


def scipy(a: Tensor, b: Tensor) -> float:
    """The same formula in float32, blurred by scipy.ndimage."""

    def blur(z: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(z, (0, 0, 1.5, 1.5), truncate=3.5)[..., 5:-5, 5:-5]

    x, y = a[0].numpy() - 0.5, b[0].numpy() - 0.5
    mx, my = blur(x), blur(y)
    squares, cross = blur(x * x + y * y) - mx * mx - my * my, blur(x * y) - mx * my
    mx, my = mx + 0.5, my + 0.5
    top = (2 * mx * my + ssim.C1) * (2 * cross + ssim.C2)
    return float((top / ((mx * mx + my * my + ssim.C1) * (squares + ssim.C2))).mean(dtype=np.float64))


def official(path: str) -> Callable[[Tensor, Tensor], float]:
    spec = importlib.util.spec_from_file_location("cal_ssim", Path(path) / "causalvideovae/eval/cal_ssim.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda a, b: float(np.mean(list(module.calculate_ssim(a, b)["value"].values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("frames", 33), ("size", 256), ("threads", 1), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--official", default="")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    a, b = clip(args.frames, args.size)
    scorers: dict[str, Callable[[Tensor, Tensor], float]] = {
        module.__name__.rpartition(".")[2]: here(module) for module in (psnr, psnr_pooled, flicker, ssim)
    }
    scorers |= {
        "ssim scipy.ndimage": scipy,
        "ssim scikit-image": scikit_image,
        "ssim torchmetrics": torchmetrics,
    }
    if args.official:
        scorers["ssim WF-VAE scripts"] = official(args.official)
    values = {name: scorer(a, b) for name, scorer in scorers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(args.repeats):
        for name, scorer in scorers.items():
            start = time.process_time()
            scorer(a, b)
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        ratio = f"{median / medians['ssim']:6.1f} x ssim" if name.startswith("ssim ") else ""
        print(f"{name:20} {median:8.3f} s  {values[name]:10.6f}  {ratio}")
    if args.output:
        record = {
            "benchmark": "metrics",
            "shape": list(a.shape),
            "threads": args.threads,
            "repeats": args.repeats,
            "processor_s": medians,
            "value": values,
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
        }
        Path(args.output).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
