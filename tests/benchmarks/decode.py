"""Reading 33 frames of a long video: this project, decord, and decoding everything; and many clips on many threads.

    python tests/benchmarks/decode.py [--repeats 5] [--output results/benchmarks/decode.json]

The video is made here: 300 frames of 1280x720 H.264 (key frame every 100, three B-frames), 10 s of a moving pattern under noise.
Ways alternate within each repeat; medians in seconds, and the ratio to ours.  All ways must agree on every pixel.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.videos import write
from vaebench import machine
from vaebench.data.synthetic import Motion, render
from vaebench.video_io import decode, decord_reader, resize

COUNT = 33
LENGTH = 300
STARTS = (0, 250)
BUNDLE = sorted((Path(__file__).parents[2] / "vaebench" / "data" / "bundle").glob("*.mp4"))


def make(folder: Path) -> Path:
    """A 720p video with structure, motion and grain."""
    pattern = render(Motion(3, 2), 32, 1280, 0)[:, :, :720].permute(1, 2, 3, 0).numpy()  # (32, 720, 1280, 3)
    grain = np.random.default_rng(0).integers(0, 12, (8, 720, 1280, 1), dtype=np.uint8)
    order = [*range(32), *range(30, 0, -1)]
    pictures = np.stack([pattern[t] // 2 + 40 + grain[t % 8] for t in range(32)])
    frames = (pictures[order[t % len(order)]] for t in range(LENGTH))
    options = {"g": "100", "bf": "3", "preset": "veryfast", "crf": "25"}
    return write(folder / "long.mp4", _Lazy(frames, (LENGTH, 720, 1280, 3)), options=options)  # type: ignore[arg-type]


class _Lazy:
    """Frames made one at a time, with the shape of the array that they would be."""

    def __init__(self, frames: object, shape: tuple[int, ...]) -> None:
        self.frames, self.shape = frames, shape

    def __iter__(self) -> object:
        return self.frames


def ours(file: Path, start: int) -> NDArray[np.uint8]:
    return np.stack(list(decode.read(file, start, COUNT)))


def by_decord(file: Path, start: int, threads: int) -> NDArray[np.uint8]:
    import decord

    reader = decord.VideoReader(str(file), num_threads=threads)
    frames: NDArray[np.uint8] = reader.get_batch(range(start, start + COUNT)).asnumpy()
    return frames


def everything(file: Path, start: int) -> NDArray[np.uint8]:
    """Decode the whole file to RGB, then slice: what scripts of the field do."""
    with av.open(str(file)) as container:
        container.streams.video[0].thread_type = "AUTO"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames[start : start + COUNT])


WAYS: dict[str, Callable[[Path, int], NDArray[np.uint8]]] = {
    "ours_s": ours,
    "decord_all_threads_s": lambda file, start: by_decord(file, start, 0),
    "decord_one_thread_s": lambda file, start: by_decord(file, start, 1),
    "reader_decord_s": lambda file, start: np.stack(list(decord_reader.read(file, start, COUNT))),
}


def timed(way: Callable[[Path, int], NDArray[np.uint8]], file: Path, start: int) -> tuple[float, NDArray[np.uint8]]:
    begin = time.perf_counter()
    frames = way(file, start)
    return time.perf_counter() - begin, frames


def far_and_near(file: Path, repeats: int) -> list[dict[str, float]]:
    rows = []
    for start in STARTS:
        ways = {**WAYS, "everything_s": everything} if start == 0 else WAYS
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            reference = None
            for name, way in ways.items():
                took, frames = timed(way, file, start)
                seconds[name].append(took)
                reference = frames if reference is None else reference
                assert np.array_equal(frames, reference), f"{name} gives other pixels from frame {start}"
        row: dict[str, float] = {name: statistics.median(times) for name, times in seconds.items()}
        row |= {f"{name[:-2]}_over_ours": row[name] / row["ours_s"] for name in ways if name != "ours_s"}
        rows.append({"start": start, **row})
        print({name: round(value, 3) for name, value in rows[-1].items()})
    return rows


def parts(file: Path, repeats: int) -> dict[str, float]:
    """Where the time of a clip goes."""
    reading, resizing = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        frames = list(decode.read(file, 0, COUNT))
        middle = time.perf_counter()
        resize.clip(frames, 256)
        reading.append(middle - begin)
        resizing.append(time.perf_counter() - middle)
    return {"decode_s": statistics.median(reading), "resize_s": statistics.median(resizing)}


def readers(repeats: int) -> dict[str, float]:
    """Seconds to read the clips of the bundle, one after the other, by reader=pyav and by reader=decord."""
    seconds: dict[str, list[float]] = {"pyav_s": [], "decord_s": []}
    for _ in range(repeats):
        for name, module in {"pyav_s": decode, "decord_s": decord_reader}.items():
            begin = time.perf_counter()
            for clip in BUNDLE:
                for _ in module.read(clip, 0, COUNT):
                    pass
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print({name: round(value, 3) for name, value in medians.items()})
    return {**medians, "decord_over_pyav": medians["decord_s"] / medians["pyav_s"]}


def side_by_side(repeats: int) -> list[dict[str, float]]:
    """Clips per second with so many threads loading; the files are small, as most are, so that threads inside help little."""
    rows = []
    for threads in (1, 2):
        rates = []
        for _ in range(repeats):
            with ThreadPoolExecutor(threads) as pool:
                begin = time.perf_counter()
                list(pool.map(lambda clip: resize.clip(decode.read(clip, 0, COUNT), 256), BUNDLE))
                rates.append(len(BUNDLE) / (time.perf_counter() - begin))
        rows.append({"threads": threads, "clips_per_s": statistics.median(rates)})
        print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/decode.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = make(Path(folder))
        record = {
            "what": f"{COUNT} frames of {LENGTH} at 1280x720 (H.264, key frame every 100), seconds, median of {args.repeats}",
            "file_bytes": file.stat().st_size,
            "starts": far_and_near(file, args.repeats),
            "clip": parts(file, args.repeats),
            "bundle_side_by_side": side_by_side(args.repeats),
            "bundle_readers": readers(args.repeats),
            "libraries": {"av": av.__version__, "decord": __import__("decord").__version__},
            "threads": torch.get_num_threads(),
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
        }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
