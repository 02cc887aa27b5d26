"""A long video through WF-VAE in pieces: is the memory the same at ten times the length?

    python tests/benchmarks/wfvae_long.py [--frames 101 1001] [--size 256] [--piece 8] [--threads N] [--output FILE.json]

Frames are made as they are asked for, each piece is encoded, its latents are decoded, and the pixels are dropped: nothing
that grows with the length is held but the latents in flight.  Each length runs in a fresh process; the peak is the
resident high-water mark above what was resident with the weights loaded.  The model is `tiny`, with random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from adapters.wfvae import TINY
from vaebench import machine, timing
from wfvae import WFVAE, WFVAEConfig


def video(frames: int, size: int, piece: int) -> Iterator[Tensor]:
    """A drifting pattern, `piece` frames at a time: (1, 3, n, size, size) in -1..1."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 6, size), indexing="ij")
    for start in range(0, frames, piece):
        t = torch.arange(start, min(start + piece, frames)).view(1, -1, 1, 1) / 10
        yield torch.cat([torch.sin(x + k * y + t) for k in range(3)])[None]


def run(frames: int, size: int, piece: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = WFVAE(WFVAEConfig(**TINY)).eval().requires_grad_(False)
    seconds: dict[str, float] = {}

    def stream() -> int:
        seconds["encode_s"], decoded = 0.0, 0

        def latents() -> Iterator[Tensor]:
            stream = model.encode_stream(video(frames, size, piece))
            while True:
                start = time.perf_counter()
                posterior = next(stream, None)
                seconds["encode_s"] += time.perf_counter() - start
                if posterior is None:
                    return
                yield posterior.mean

        start = time.perf_counter()
        for part in model.decode_stream(latents()):
            decoded += part.shape[2]
        seconds["decode_s"] = time.perf_counter() - start - seconds["encode_s"]
        return decoded

    with torch.no_grad():
        with timing.peak_memory(torch.device("cpu")) as peak:
            stream()
        decoded = stream()  # times are of the second run: page faults slow the first one down
    if decoded != frames:
        raise SystemExit(f"{frames} frames went in and {decoded} came out")
    return {"frames": frames, "peak_bytes": peak.above_bytes, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[101, 1001])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--piece", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        print(json.dumps(run(args.frames[0], args.size, args.piece)))
        return
    rows = []
    for frames in args.frames:
        command = [sys.executable, __file__, "--worker", "--frames", str(frames), "--size", str(args.size)]
        command += ["--piece", str(args.piece), "--threads", str(args.threads)]
        quiet = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}  # freed memory is given back at once
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"{frames:5} frames of {args.size}x{args.size}: peak {row['peak_bytes'] / 2**20:.0f} MiB above the weights, "
            f"encode {row['encode_s']:.1f} s, decode {row['decode_s']:.1f} s",
            flush=True,
        )
    if args.output:
        record = {
            "benchmark": "wfvae_long",
            "setting": {"model": "tiny", "size": args.size, "piece": args.piece, "threads": args.threads},
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
