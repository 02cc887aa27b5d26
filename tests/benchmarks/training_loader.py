"""How fast training clips come: clips per second of the loader, by workers, from files and from memory.

    python tests/benchmarks/training_loader.py --root DIR [--frames 25] [--size 256] [--workers 0 1] [--clips 24]
        [--output results/benchmarks/training_loader.json]

A trainer that takes s seconds per clip on its device needs 1 / s clips per second; decoding scales with processor cores.
Processor seconds are those of this process, so they are only given for workers = 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine
from vaebench.training.clips import TrainingClips, TrainingData
from wfvae.batches import batches


def measured(clips: TrainingClips, count: int, workers: int) -> dict[str, float]:
    stream = batches(clips, 1, workers=workers)
    next(stream)  # workers have started
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(stream)
    found = {"clips_per_s": count / (time.perf_counter() - wall)}
    if not workers:
        found["processor_s_per_clip"] = (time.process_time() - processor) / count
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainingData(args.root, num_frames=args.frames, size=args.size, augment="flip", crop="random")
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder, "files.csv")
        files = TrainingClips(config, index)
        found = {f"files, {workers} workers": measured(files, args.clips, workers) for workers in args.workers}
        memory = TrainingClips(dataclasses.replace(config, cache="memory"), index)
        found["memory, 0 workers"] = measured(memory, args.clips * 4, 0)
    record = {
        "benchmark": "training_loader",
        "videos": len(files.entries),
        "frames": args.frames,
        "size": args.size,
        "found": found,
        "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
