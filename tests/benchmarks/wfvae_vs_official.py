"""WF-VAE here against the official code: seconds and peak memory, same weights, same inputs, side by side.

    python tests/benchmarks/wfvae_vs_official.py --official PATH [--model tiny|s|l] [--frames 33] [--size 256]
        [--device cpu|cuda] [--dtype float32|bfloat16] [--threads N] [--repeats 3] [--output FILE.json]

PATH is a checkout of github.com/PKU-YuanGroup/WF-VAE; the record names its commit where git knows it.  Runs alternate
(theirs, ours, theirs, ours, ...) after one warm-up each, and medians are reported, because a machine is seldom quiet;
on a CPU the processor time beside the clock's tells how much of a time was other people's work.  Peak memory is
measured in a fresh process per case: the resident high-water mark (CUDA: the allocator's) during the call, above what
was resident before it with the weights loaded; freed memory is given back at once, on both sides.  "streamed" is their
`enable_tiling()` with its own choice of pieces, and `encode_long` / `decode_long` here with pieces of the same size.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, timing
from wfvae import WFVAE, WFVAEConfig

MODELS = {
    "tiny": WFVAEConfig(base_channels=32, latent_channels=8, encoder_flow_channels=32, decoder_flow_channels=32),
    "s": WFVAEConfig(base_channels=128, latent_channels=8),
    "l": WFVAEConfig(base_channels=192, latent_channels=16),
}
CASES = ("encode", "decode", "encode_streamed", "decode_streamed")
PIECES = {"encode_streamed": 4, "decode_streamed": 2}  # what the official code picks at 33 frames


def build(args: argparse.Namespace, who: str) -> torch.nn.Module:
    """Either side's model with the same random weights; loading ours into theirs is strict."""
    torch.manual_seed(0)
    config = MODELS[args.model]
    ours = WFVAE(config)
    if who == "official":
        sys.path.insert(0, args.official)
        from causalvideovae.model.vae.modeling_wfvae import WFVAEModel

        kwargs = {k: v for k, v in config.to_official().items() if not k.startswith("_")}
        theirs = WFVAEModel(**kwargs)
        theirs.load_state_dict(ours.state_dict())
        ours = theirs
    return ours.to(args.device, getattr(torch, args.dtype)).eval().requires_grad_(False)


def call(model: torch.nn.Module, who: str, case: str, args: argparse.Namespace) -> Callable[[], torch.Tensor]:
    """The measured call: no arguments, gives the posterior's mean or the video."""
    generator = torch.Generator().manual_seed(1)
    c = MODELS[args.model].latent_channels
    video = torch.rand(1, 3, args.frames, args.size, args.size, generator=generator) * 2 - 1
    latent = torch.randn(1, c, 1 + (args.frames - 1) // 4, args.size // 8, args.size // 8, generator=generator)
    dtype = getattr(torch, args.dtype)
    video, latent = video.to(args.device, dtype), latent.to(args.device, dtype)
    if who == "official":

        def official() -> torch.Tensor:
            (model.enable_tiling if case.endswith("streamed") else model.disable_tiling)()
            with contextlib.redirect_stdout(io.StringIO()):
                if case.startswith("encode"):
                    return model.encode(video).latent_dist.mode()
                return model.decode(latent).sample

        return official
    return {
        "encode": lambda: model.encode(video).mode(),
        "decode": lambda: model.decode(latent),
        "encode_streamed": lambda: model.encode_long(video, piece=PIECES[case]).mode(),
        "decode_streamed": lambda: model.decode_long(latent, piece=PIECES[case]),
    }[case]


def worker(args: argparse.Namespace) -> None:
    """One case of one side in this fresh process: prints its peak in bytes."""
    who, case = args.worker.split(":")
    device = torch.device(args.device)
    run = call(build(args, who), who, case, args)
    with torch.no_grad(), timing.peak_memory(device) as peak:
        run()
    print(json.dumps({"peak_bytes": peak.above_bytes}))


def peak_bytes(args: argparse.Namespace, who: str, case: str) -> int:
    command = [sys.executable, __file__, "--worker", f"{who}:{case}"]
    for name in ("official", "model", "frames", "size", "device", "dtype", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    # without it glibc keeps freed blocks of up to 32 MiB, and the mark would measure its habits
    quiet = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise SystemExit(f"{who} {case} failed:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def seconds(
    runs: dict[str, Callable[[], torch.Tensor]], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]], float]:
    """Seconds of each side's alternating runs, on the clock and of processor time, and the outputs' largest difference."""
    device = torch.device(args.device)
    outputs = {who: run().float().cpu() for who, run in runs.items()}
    difference = (outputs["official"] - outputs["ours"]).abs().max().item()
    outputs.clear()
    times: dict[str, list[float]] = {who: [] for who in runs}
    busy: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(args.repeats):
        for who, run in runs.items():
            timing.synchronize(device)
            start, start_busy = time.perf_counter(), time.process_time()
            run()
            timing.synchronize(device)
            times[who].append(time.perf_counter() - start)
            busy[who].append(time.process_time() - start_busy)
    return times, busy, difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, metavar="PATH")
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        return worker(args)

    rows = []
    with torch.no_grad():
        for case in args.cases:
            # fresh models per case: the official tiling keeps caches and the length of its first video
            runs = {who: call(build(args, who), who, case, args) for who in ("official", "ours")}
            times, busy, difference = seconds(runs, args)
            del runs
            peaks = {who: peak_bytes(args, who, case) for who in ("official", "ours")}
            official_s, ours_s = (statistics.median(times[who]) for who in ("official", "ours"))
            official_busy_s, ours_busy_s = (statistics.median(busy[who]) for who in ("official", "ours"))
            rows.append(
                {
                    "case": case,
                    "official_s": official_s,
                    "ours_s": ours_s,
                    "speedup": official_s / ours_s,
                    "official_processor_s": official_busy_s,
                    "ours_processor_s": ours_busy_s,
                    "processor_speedup": official_busy_s / ours_busy_s,
                    "official_peak_bytes": peaks["official"],
                    "ours_peak_bytes": peaks["ours"],
                    "memory_ratio": peaks["ours"] / peaks["official"],
                    "max_abs_difference": difference,
                    "all_official_s": times["official"],
                    "all_ours_s": times["ours"],
                }
            )
            print(
                f"{case:16} {official_s:8.2f} s -> {ours_s:8.2f} s  x{official_s / ours_s:.2f} "
                f"(processor time x{official_busy_s / ours_busy_s:.2f})   "
                f"{peaks['official'] / 2**20:7.0f} MiB -> {peaks['ours'] / 2**20:7.0f} MiB  "
                f"x{peaks['ours'] / peaks['official']:.2f}   max |difference| {difference:.1e}",
                flush=True,
            )
    if args.output:
        git = ["git", "-C", args.official, "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, env={**os.environ, "GIT_CEILING_DIRECTORIES": "/"})
        setting = {k: getattr(args, k) for k in ("model", "frames", "size", "device", "dtype", "threads", "repeats")}
        record = {
            "benchmark": "wfvae_vs_official",
            "setting": setting,
            "official_commit": commit.stdout.strip(),
            "machine": dataclasses.asdict(machine.describe(torch.device(args.device))),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
