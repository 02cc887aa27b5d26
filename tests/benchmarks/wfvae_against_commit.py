"""WF-VAE here against an older commit of it, on a CPU: encoding and decoding, generator steps, or loading.

    python tests/benchmarks/wfvae_against_commit.py inference|step|load --before PATH --commit HASH
        [--only NAME ...] [--repeats 5] [--threads 1] [--output FILE.json]

PATH is a checkout of commit HASH (`git worktree add PATH HASH`).  Both versions run in one process, with the same random
weights and inputs.  After one warm-up each, pairs alternate: before, after, before, after.  The record holds processor and wall
seconds (median, lowest, highest), the median over pairs of before / after, and the largest absolute difference of the results.

`inference`: whole videos and streams of the widths S and L.  `step`: the loss of a generator step with its backward pass through
the whole model, with discriminator and with or without LPIPS (VGG16, random weights).  `load`: `wfvae.load` of a small
checkpoint in a fresh process each; seconds then include `import wfvae`, and imported modules are counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine

HERE = Path(__file__).resolve().parents[2]
Work = Callable[[], list[Tensor]]
WIDTHS = {"S": (128, 16), "L": (192, 16)}  # base channels, latent channels
INFERENCE = {
    # name: width, frames, size, encode or decode, latent frames in a piece (0: the whole video)
    "S 17x64 encode streamed": ("S", 17, 64, "encode", 1),
    "S 17x64 decode streamed": ("S", 17, 64, "decode", 1),
    "S 17x64 encode": ("S", 17, 64, "encode", 0),
    "S 17x64 decode": ("S", 17, 64, "decode", 0),
    "L 5x64 encode": ("L", 5, 64, "encode", 0),
    "L 5x64 decode": ("L", 5, 64, "decode", 0),
}
STEPS = {"base 32, 9x64, with LPIPS": True, "base 32, 9x64, without LPIPS": False}


@contextmanager
def version(folder: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Inside, `wfvae` is imported from `folder`; nothing of it stays in `sys.modules`."""

    def remove() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "wfvae"]:
            del sys.modules[name]

    remove()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module
    sys.path.remove(str(folder))
    remove()


def inference(folder: Path, case: tuple[str, int, int, str, int]) -> Work:
    width, frames, size, half, piece = case
    with version(folder) as load:
        wfvae = load("wfvae")
    base, channels = WIDTHS[width]
    torch.manual_seed(0)
    model = wfvae.WFVAE(wfvae.WFVAEConfig(base_channels=base, latent_channels=channels)).eval().requires_grad_(False)
    video = torch.rand(1, 3, frames, size, size) * 2 - 1
    latent = torch.randn(1, channels, 1 + (frames - 1) // 4, size // 8, size // 8)

    def work() -> list[Tensor]:
        with torch.no_grad():
            if half == "encode":
                return [(model.encode_long(video, 4 * piece) if piece else model.encode(video)).mean]
            return [model.decode_long(latent, piece) if piece else model.decode(latent)]

    return work


def step(folder: Path, lpips: bool) -> Work:
    """The gradient of all parameters by a generator step, over its norm."""
    from vaebench.features import lpips

    with version(folder) as load:
        wfvae, losses, discriminator = load("wfvae"), load("wfvae.losses"), load("wfvae.discriminator")
        reconstruction = load("wfvae.model").Reconstruction
    torch.manual_seed(0)
    model = wfvae.WFVAE(wfvae.WFVAEConfig(32, 4, encoder_flow_channels=32, decoder_flow_channels=32))
    network = discriminator.PatchDiscriminator3D(dropout=0.0).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distance = lpips.package("vgg")
    for parameter in distance.parameters():
        parameter.data.normal_(0, 0.05)
    config = losses.LossConfig(perceptual=1.0 if lpips else 0.0)
    video = torch.rand(1, 3, 9, 64, 64) * 2 - 1

    def work() -> list[Tensor]:
        model.zero_grad()
        encoded = model.encode_with_coefficients(video)
        decoded = model.decode_with_coefficients(encoded.posterior.mean)
        output = reconstruction(decoded.video, encoded.posterior, encoded.w2, encoded.w3, decoded.w2, decoded.w3)
        losses.generator_loss(
            video,
            output,
            config,
            perceptual=(lambda a, b: distance(a, b).flatten()) if lpips else None,
            fake_logits=network(output.video),
            last_layer=model.last_layer,
        ).total.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return [gradient / gradient.norm()]

    return work


def measured(work: Work) -> tuple[float, float, list[Tensor]]:
    """Processor and wall seconds, and the results."""
    wall, processor = time.perf_counter(), time.process_time()
    results = work()
    return time.process_time() - processor, time.perf_counter() - wall, results


LOAD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
start, wall, modules = time.process_time(), time.perf_counter(), len(sys.modules)
import wfvae
wfvae.load(sys.argv[2])
print(time.process_time() - start, time.perf_counter() - wall, len(sys.modules) - modules)
"""


def loading(folder: Path, checkpoint: str) -> tuple[float, float, list[Tensor]]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), checkpoint], capture_output=True, text=True, check=True, cwd="/"
    )
    processor, wall, modules = done.stdout.split()
    return float(processor), float(wall), [torch.tensor(float(modules))]


def compared(run: Callable[[str], tuple[float, float, list[Tensor]]], repeats: int) -> dict[str, Any]:
    times: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
    results: dict[str, list[Tensor]] = {}
    for i in range(repeats + 1):
        for side, seconds in times.items():
            processor, wall, results[side] = run(side)
            if i:  # the first pair warms up
                seconds.append((processor, wall))
    row: dict[str, Any] = {}
    for place, clock in enumerate(("processor_s", "wall_s")):
        for side, seconds in times.items():
            values = [pair[place] for pair in seconds]
            row[f"{side}_{clock}"] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        ratios = [b[place] / a[place] for b, a in zip(times["before"], times["after"], strict=True)]
        row[f"before_over_after_{clock.removesuffix('_s')}"] = statistics.median(ratios)
    if results["before"][0].dim():
        pairs = zip(results["before"], results["after"], strict=True)
        row["largest_difference"] = max(float((a - b).abs().max()) for a, b in pairs)
    else:
        row["imported_modules"] = {side: int(count[0]) for side, count in results.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("inference", "step", "load"))
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folders = {"before": args.before.resolve(), "after": HERE}
    cases: dict[str, Any] = {"inference": INFERENCE, "step": STEPS, "load": {"a model of width 8": None}}[args.what]
    rows = []
    for name, case in cases.items():
        if args.only and name not in args.only:
            continue
        if args.what == "load":
            with version(HERE) as load, tempfile.TemporaryDirectory() as checkpoint:
                wfvae = load("wfvae")
                small = {"encoder_flow_channels": 8, "decoder_flow_channels": 8}
                load("wfvae.checkpoint").save(wfvae.WFVAE(wfvae.WFVAEConfig(8, 4, **small)), checkpoint)
                row = compared(lambda side: loading(folders[side], checkpoint), args.repeats)
        else:
            build = inference if args.what == "inference" else step
            works = {side: build(folder, case) for side, folder in folders.items()}
            row = compared(lambda side: measured(works[side]), args.repeats)  # noqa: B023
        rows.append({"name": name, **row})
        print(
            f"{name:30} {row['before_processor_s']['median']:.3f} -> {row['after_processor_s']['median']:.3f} processor s, "
            f"{row['before_over_after_processor']:.2f}x; wall {row['before_over_after_wall']:.2f}x; "
            f"{row.get('largest_difference', row.get('imported_modules'))}",
            flush=True,
        )
        if args.output:  # after each row: a run that is stopped leaves those it has
            record = {
                "benchmark": "wfvae_against_commit",
                "setting": {"what": args.what, "before": args.commit, "repeats": args.repeats, "threads": args.threads},
                "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
                "rows": rows,
            }
            args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
