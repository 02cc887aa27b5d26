"""Training steps here against the official code: processor seconds, wall seconds and peak memory of the inner loop.

    python tests/benchmarks/training_vs_official.py --official PATH [--commit HASH] [--base 32] [--frames 9] [--size 64]
        [--device cpu] [--precision no|bf16] [--threads 1] [--repeats 3] [--output FILE.json]

PATH is a checkout of github.com/PKU-YuanGroup/WF-VAE.  Both sides: the same network and random weights, batch 1, L1 + KL +
wavelet + adaptive GAN with the full 3-D discriminator, AdamW, EMA; LPIPS is left out on both, because its weights are not
available everywhere.  Theirs is the body of the official loop (forward, loss module, optimiser, EMA) around their modules; ours is
`wfvae.trainer` with everything it does in a step, logging included.  A pair of steps, one of the generator and one of the
discriminator, is the unit.  Sides alternate after one warm-up pair each; medians are reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, timing
from wfvae import WFVAE, WFVAEConfig
from wfvae.batches import Sample
from wfvae.objective import LossConfig
from wfvae.schedule import TrainerConfig
from wfvae.trainer import Trainer

Pair = Callable[[], None]


class Noise:
    """Clips of uniform noise: the time of a step does not depend on what is in them."""

    def __init__(self, frames: int, size: int) -> None:
        self.shape = (3, frames, size, size)

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.rand(self.shape, generator=torch.Generator().manual_seed(index)) * 2 - 1)


def config(args: argparse.Namespace) -> WFVAEConfig:
    return WFVAEConfig(args.base, 4, encoder_flow_channels=args.base, decoder_flow_channels=args.base)


def ours(args: argparse.Namespace) -> Pair:
    torch.manual_seed(0)
    trainer = Trainer(
        WFVAE(config(args)),
        Noise(args.frames, args.size),
        Path(tempfile.mkdtemp()),
        config=TrainerConfig(steps=10**9, workers=0, precision=args.precision, max_grad_norm=1.0),
        loss=LossConfig(perceptual=0),
        cpu=args.device == "cpu",
    )
    stream = trainer._stream()

    def pair() -> None:
        for _ in range(2):
            trainer._train_step(stream)
            trainer.step += 1

    return pair


def theirs(args: argparse.Namespace) -> Pair:
    sys.path.insert(0, args.official)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from causalvideovae.model.ema_model import EMA
        from causalvideovae.model.losses import perceptual_loss
        from causalvideovae.model.vae.modeling_wfvae import WFVAEModel

    perceptual_loss.LPIPS = nn.Identity  # never called: its weight is 0
    torch.manual_seed(0)
    official = {name: value for name, value in config(args).to_official().items() if not name.startswith("_")}
    model = WFVAEModel(**official).to(args.device)
    model.load_state_dict(WFVAE(config(args)).state_dict(), strict=False)
    loss = perceptual_loss.LPIPSWithDiscriminator3D(
        0, kl_weight=1e-6, perceptual_weight=0.0, disc_weight=0.5, wavelet_weight=0.1
    ).to(args.device)
    trained = [p for name, p in model.named_parameters() if "wavelet_transform" not in name]
    generator = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-4)
    discriminator = torch.optim.AdamW(loss.discriminator.parameters(), lr=1e-5, weight_decay=1e-4)
    ema = EMA(model, 0.999)
    ema.register()
    clips, count = Noise(args.frames, args.size), iter(range(10**9))

    def step(now: int) -> None:
        video = clips[now].video[None].to(args.device)
        half = torch.autocast(args.device, torch.bfloat16) if args.precision == "bf16" else nullcontext()
        model.requires_grad_(now % 2 == 0)
        with half:
            out = model(video)
            found, _ = loss(
                video, out.sample, out.latent_dist, optimizer_idx=now % 2, global_step=now,
                last_layer=model.get_last_layer(), wavelet_coeffs=out.extra_output, split="train",
            )  # fmt: skip
        optimizer = discriminator if now % 2 else generator
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        if now % 2 == 0:
            ema.update()

    def pair() -> None:
        step(next(count))
        step(next(count))

    return pair


SIDES: dict[str, Callable[[argparse.Namespace], Pair]] = {"ours": ours, "theirs": theirs}


def peak(args: argparse.Namespace, side: str) -> int:
    """Peak memory in bytes of two pairs in a fresh process, above what is resident before the first."""
    command = [sys.executable, __file__, "--worker", side]
    for name in ("official", "base", "frames", "size", "device", "precision", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    return int(done.stdout.split()[-1])


def worker(args: argparse.Namespace) -> None:
    pair = SIDES[args.worker](args)
    with timing.peak_memory(torch.device(args.device)) as found:
        pair()
        pair()
    print(found.above_bytes)


def measured(pair: Pair, device: str) -> tuple[float, float]:
    """Processor and wall seconds of one pair."""
    timing.synchronize(torch.device(device))
    wall, processor = time.perf_counter(), time.process_time()
    pair()
    timing.synchronize(torch.device(device))
    return time.process_time() - processor, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True)
    parser.add_argument("--commit", default="")
    parser.add_argument("--base", type=int, default=32)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        return worker(args)
    pairs = {side: build(args) for side, build in SIDES.items()}
    for pair in pairs.values():
        pair()
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in pairs}
    for _ in range(args.repeats):
        for side, pair in pairs.items():
            times[side].append(measured(pair, args.device))
    bytes_of = {side: peak(args, side) for side in pairs}
    record = {
        "benchmark": "training_vs_official",
        "official_commit": args.commit,
        **{
            name: getattr(args, name)
            for name in ("base", "frames", "size", "device", "precision", "threads", "repeats")
        },
        "unit": "a generator step and a discriminator step, batch 1",
        "median_processor_s": {side: statistics.median(t[0] for t in found) for side, found in times.items()},
        "median_wall_s": {side: statistics.median(t[1] for t in found) for side, found in times.items()},
        "steps_per_s": {side: 2 / statistics.median(t[1] for t in found) for side, found in times.items()},
        "peak_bytes": bytes_of,
        "theirs_over_ours": {
            "processor": statistics.median(b[0] / a[0] for a, b in zip(times["ours"], times["theirs"], strict=True)),
            "wall": statistics.median(b[1] / a[1] for a, b in zip(times["ours"], times["theirs"], strict=True)),
            "peak": bytes_of["theirs"] / bytes_of["ours"],
        },
        "machine": dataclasses.asdict(machine.describe(torch.device(args.device))),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
