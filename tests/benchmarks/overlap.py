"""Whether scoring in a thread, while the next clip is computed, pays on a CPU: the suite with and without it, in alternating pairs.

    python tests/benchmarks/overlap.py [--vae wfvae/tiny] [--clips 4] [--pairs 5] [--threads 2] [--output FILE.json]

`vaebench.overlap` uses such a thread on a GPU alone.  The record has wall and processor seconds of each run, and the ratio
overlapped / alone of each pair.  Scores have to be equal, or the script stops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, runner
from vaebench.config import parse_run
from vaebench.overlap import Overlap
from vaebench.records import Score


class Thread:
    """The thread of `Overlap`, without a device."""

    def mark(self) -> None: ...

    def run(self, work: Callable[[], None], mark: object) -> None:
        work()


def suite(arguments: argparse.Namespace, overlapped: bool) -> tuple[float, float, dict[str, Score]]:
    """Wall seconds, processor seconds and scores of one run."""
    runner.overlap_of = lambda device: Overlap(Thread() if overlapped else None)
    with tempfile.TemporaryDirectory() as folder:
        words = [f"vaes=[{arguments.vae}]", "metrics=[psnr,ssim,flicker]", f"clips={arguments.clips}", "device=cpu"]
        words += [f"size={arguments.size}", f"results={folder}/results", f"runs={folder}/runs"]
        wall, processor = time.perf_counter(), time.process_time()
        outcome = runner.run(parse_run(words))
        seconds = time.perf_counter() - wall, time.process_time() - processor
    assert not outcome.failed
    return *seconds, outcome.records[0].scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", default="wfvae/tiny")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    suite(arguments, overlapped=False)  # warm: file cache, kernels
    pairs = []
    for _ in range(arguments.pairs):
        alone, overlapped = suite(arguments, overlapped=False), suite(arguments, overlapped=True)
        if alone[2] != overlapped[2]:
            raise SystemExit(f"the scores differ: {alone[2]} and {overlapped[2]}")
        pairs.append((alone[:2], overlapped[:2]))
        print(f"alone {alone[0]:.2f} s, overlapped {overlapped[0]:.2f} s on the clock", flush=True)
    ratios = {
        name: [overlapped[k] / alone[k] for alone, overlapped in pairs] for k, name in enumerate(("wall", "processor"))
    }
    record = {
        "benchmark": "overlap",
        "vae": arguments.vae,
        "clips": arguments.clips,
        "size": arguments.size,
        "threads": arguments.threads,
        "alone_s": [alone for alone, _ in pairs],
        "overlapped_s": [overlapped for _, overlapped in pairs],
        "overlapped_over_alone": ratios,
        "median": {name: statistics.median(values) for name, values in ratios.items()},
        "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
