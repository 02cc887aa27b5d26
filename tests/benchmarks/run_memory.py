"""The memory of `vaebench run` against the length of the clip, in mode "whole" and "streamed", of this code and of another commit.

    python tests/benchmarks/run_memory.py [--before CHECKOUT] [--frames 33 101 257 501 1001] [--before-frames 33 101 257]
                                          [--whole 33 101 257] [--output results/benchmarks/run_memory.json]

The clip is a bundled one, played forwards and backwards and encoded again (x264) until it is long enough.  Each row is a new
process that decodes, encodes, reconstructs and scores it; the peak is that of the resident set of the process (getrusage), with
Python, PyTorch and the weights.  The last row also asks for a metric whose weights are missing, as the record states.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import av
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine
from vaebench.data.bundle import ROOT as BUNDLE
from vaebench.video_io import decode, manifest

ROOT = Path(__file__).resolve().parents[2]
METRICS = "psnr,ssim"
RUN = "import sys; sys.path.insert(0, '.'); from vaebench.cli import main; sys.exit(main(sys.argv[1:]))"


def write_long(file: Path, frames: int) -> str:
    """Write a video of `frames` frames; returns the name of the clip that it repeats."""
    row = manifest.read(BUNDLE / "clips.csv")[0]
    source = list(decode.read(BUNDLE / row.file, row.start, decode.frame_count(BUNDLE / row.file) - row.start))
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *(side // 2 * 2 for side in source[0].shape[:2]), "yuv420p"
        for picture in islice(cycle(chain(source, source[-2:0:-1])), frames):
            cropped = picture[: stream.height, : stream.width].copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cropped, format="rgb24")))
        container.mux(stream.encode(None))
    return row.id


def measure(checkout: Path, clips: Path, mode: str, frames: int, size: int, metrics: str) -> dict[str, Any]:
    """Run `vaebench run` of a checkout in a new process; its peak, its time and its scores."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "vaes=wfvae/tiny", f"mode={mode}", "data=folder", f"root={clips}", f"num_frames={frames}"]
        words += [
            f"size={size}",
            f"metrics={metrics}",
            "device=cpu",
            f"results={folder}/results",
            f"runs={folder}/runs",
        ]
        with open(Path(folder) / "log", "w+") as log:
            start = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-c", RUN, *words], cwd=checkout, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            log.seek(0)
            if status:
                raise SystemExit(f"{checkout}: {mode}, {frames} frames failed:\n{log.read()}")
        (file,) = (Path(folder) / "results").rglob("*.json")
        record = json.loads(file.read_text())
    return {
        "mode": mode,
        "frames": frames,
        "metrics": metrics,
        "peak_bytes": usage.ru_maxrss * 1024,
        "run_s": seconds,
        "scores": {name: score["value"] for name, score in record["scores"].items()},
        "absent": record["absent"],
    }


def commit(checkout: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout of another commit, to compare with")
    parser.add_argument("--frames", type=int, nargs="+", default=[33, 101, 257, 501, 1001])
    parser.add_argument(
        "--before-frames", type=int, nargs="+", default=[33, 101, 257], help="lengths of the other commit"
    )
    parser.add_argument("--whole", type=int, nargs="*", default=[33, 101, 257], help="lengths in mode whole")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clip = write_long(Path(folder) / "long.mp4", max(*arguments.frames, *arguments.whole))
        sides = {"before": arguments.before, "after": ROOT} if arguments.before else {"after": ROOT}
        for side, checkout in sides.items():
            lengths = arguments.frames if side == "after" else arguments.before_frames
            cases = [("whole", frames, METRICS) for frames in arguments.whole]
            cases += [("streamed", frames, METRICS) for frames in lengths]
            cases += [("streamed", min(lengths), f"{METRICS},lpips")] if side == "after" else []
            for mode, frames, metrics in cases:
                row = measure(checkout, Path(folder), mode, frames, arguments.size, metrics)
                rows.append({"code": side, **row})
                print(
                    f"{side} {mode} {frames} frames, {metrics}: {row['peak_bytes'] / 2**20:.0f} MiB, {row['run_s']:.0f} s, "
                    f"{row['scores']} {row['absent']}",
                    flush=True,
                )
    record = {
        "benchmark": "run_memory",
        "vae": "wfvae/tiny",
        "clip": f"{clip}, forwards and backwards",
        "size": arguments.size,
        "commits": {side: commit(checkout) for side, checkout in sides.items()},
        "threads": torch.get_num_threads(),
        "rows": rows,
        "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
