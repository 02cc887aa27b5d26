"""CV-VAE here against the official code at the released width: seconds, peak memory and the largest difference.

    python tests/benchmarks/cvvae_vs_official.py --official PATH [--commit HASH] [--form sd2.1|sd3] [--frames 9] [--size 64]
        [--threads 1] [--repeats 3] [--output FILE.json]

PATH is a checkout of github.com/AILab-CVC/CV-VAE.  Both sides have the same random weights, float32, CPU, and work
block-wise as released.  Runs alternate (theirs, ours, ...) after one warm-up each, medians are reported; the processor
time is the steadier figure on a machine that others use.  Peak memory is that of a fresh process, above what was resident
with the weights loaded.  The official code asks for xformers, whose CPU build has no attention: torch's takes its place.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from adapters._nets.blocks import attend
from adapters._nets.cvvae import CVVAE, SD3, Blocks, CVVAEConfig, published_name
from vaebench import machine, timing

CPU = torch.device("cpu")
FORMS = {"sd2.1": (CVVAEConfig(), "CVVAEModel"), "sd3": (SD3, "CVVAESD3Model")}


def official_class(path: str, name: str) -> Any:
    import diffusers.models.attention_processor  # before the stand-in: it asks whether xformers is installed

    assert diffusers.models.attention_processor
    xformers, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    ops.memory_efficient_attention = lambda q, k, v, **_: attend(q, k, v)  # type: ignore[attr-defined]
    xformers.ops, xformers.__version__ = ops, "0.0.22"  # type: ignore[attr-defined]
    sys.modules.update({"xformers": xformers, "xformers.ops": ops})
    sys.path.insert(0, path)
    from models import modeling_vae

    return getattr(modeling_vae, name)


def calls(args: argparse.Namespace, who: str) -> dict[str, Callable[[], Tensor]]:
    """The measured calls of one side: moments of a video, a video of a latent."""
    config, name = FORMS[args.form]
    torch.manual_seed(0)
    ours = CVVAE(config).eval().requires_grad_(False)
    video = torch.rand(1, 3, args.frames, args.size, args.size) * 2 - 1
    latent = torch.randn(1, config.latent_channels, 1 + (args.frames - 1) // 4, args.size // 8, args.size // 8)
    if who == "ours":
        blocks = Blocks()
        return {
            "encode": lambda: ours.encode(video, blocks),
            "decode": lambda: ours.decode(latent, blocks),
        }
    theirs = official_class(args.official, name)().eval().requires_grad_(False)
    theirs.load_state_dict({published_name(key, config): value for key, value in ours.state_dict().items()})  # strict
    return {
        "encode": lambda: theirs.encode(video).latent_dist.parameters,
        "decode": lambda: theirs.decode(latent).sample,
    }


def peak_bytes(args: argparse.Namespace, who: str, case: str) -> int:
    command = [sys.executable, __file__, "--worker", f"{who}:{case}"]
    for name in ("official", "form", "frames", "size", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who} {case} failed:\n{done.stderr[-2000:]}")
    return int(done.stdout.splitlines()[-1])


def timed(run: Callable[[], Tensor]) -> tuple[float, float]:
    """Seconds on the clock and of processor time."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - busy


def compare(args: argparse.Namespace, case: str, sides: dict[str, Callable[[], Tensor]]) -> dict[str, Any]:
    difference = (sides["official"]() - sides["ours"]()).abs().max().item()
    runs: dict[str, list[tuple[float, float]]] = {who: [] for who in sides}
    for _ in range(args.repeats):
        for who, run in sides.items():
            runs[who].append(timed(run))
    row: dict[str, Any] = {"case": case, "max_abs_difference": difference}
    for who in sides:
        row[f"{who}_s"], row[f"{who}_processor_s"] = map(statistics.median, zip(*runs[who], strict=True))
        row[f"{who}_peak_bytes"] = peak_bytes(args, who, case)
    row["processor_speedup"] = row["official_processor_s"] / row["ours_processor_s"]
    row["memory_ratio"] = row["ours_peak_bytes"] / row["official_peak_bytes"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, metavar="PATH")
    parser.add_argument("--commit", default="", help="of PATH, for the record")
    parser.add_argument("--form", choices=FORMS, default="sd2.1")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        who, _, case = args.worker.partition(":")
        run = calls(args, who)[case]
        with timing.peak_memory(CPU) as peak:
            run()
        print(peak.above_bytes)
        return
    sides = {who: calls(args, who) for who in ("official", "ours")}
    rows = []
    for case in ("encode", "decode"):
        rows.append(compare(args, case, {who: side[case] for who, side in sides.items()}))
        row = rows[-1]
        print(
            f"{case}  processor {row['official_processor_s']:.2f} s -> {row['ours_processor_s']:.2f} s "
            f"(x{row['processor_speedup']:.2f})  peak {row['official_peak_bytes'] / 2**20:.0f} MiB -> "
            f"{row['ours_peak_bytes'] / 2**20:.0f} MiB (x{row['memory_ratio']:.2f})  "
            f"max |difference| {row['max_abs_difference']:.1e}",
            flush=True,
        )
    if args.output:
        record = {
            "benchmark": "cvvae_vs_official",
            "setting": {name: getattr(args, name) for name in ("form", "frames", "size", "threads", "repeats")},
            "official_commit": args.commit,
            "machine": dataclasses.asdict(machine.describe(CPU)),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
