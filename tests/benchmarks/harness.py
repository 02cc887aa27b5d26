"""What the harness itself costs: the suite's wall time against the sum of its parts, and against the field's common way.

    python tests/benchmarks/harness.py [--vae dct/16] [--repeats 3] [--output results/benchmarks/harness.json]

Three ways over the same clips, in turn within each repeat; medians in seconds, ratios pair by pair.
  parts    decode, encode, decode and score each clip one after the other: the work itself, with nothing around it
  suite    `vaebench run --suite reconstruction`: the same, with store, records, fingerprint and decoding ahead
  common   write reference and reconstruction as mp4, then read both back once for every metric (scikit-image's SSIM)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, plugins, runner
from vaebench.config import RunConfig, parse_run
from vaebench.scoring import build_metrics
from vaebench.vae import VideoVAE, reconstruct
from vaebench.video import to_model, to_score, to_stored

METRICS = ("psnr", "ssim", "flicker")


def settings(vae: str, folder: Path) -> RunConfig:
    metrics = f"metrics=[{','.join(METRICS)}]"
    return parse_run([f"vaes=[{vae}]", metrics, "device=cpu", f"results={folder}/results", f"runs={folder}/runs"])


def suite(vae: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outcome = runner.run(settings(vae, Path(folder)))
        seconds = time.perf_counter() - start
    assert len(outcome.records) == 1
    assert not outcome.failed
    return seconds


@torch.inference_mode()
def parts(vae: str) -> dict[str, float]:
    import adapters

    config = settings(vae, Path("unused"))
    spent = dict.fromkeys(("load", "decode clip", "encode and decode", "score"), 0.0)

    def lap(name: str, start: float) -> float:
        now = time.perf_counter()
        spent[name] += now - start
        return now

    at = time.perf_counter()
    model: VideoVAE = adapters.load(vae)
    metrics, _ = build_metrics(METRICS, torch.device("cpu"), config.num_frames)
    at = lap("load", at)
    for clip in plugins.find("data", config.data).build(config):
        reference = to_model(clip.load()).unsqueeze(0)
        at = lap("decode clip", at)
        reconstruction, _ = reconstruct(model, reference)
        at = lap("encode and decode", at)
        seen, got = to_score(reference), to_score(reconstruction)
        for metric in metrics.values():
            metric.measure(seen, got)
        at = lap("score", at)
    return spent


@torch.inference_mode()
def common(vae: str) -> float:
    """Reconstruct everything into mp4 files, then one pass over them for each metric."""
    from skimage.metrics import structural_similarity

    import adapters

    config = settings(vae, Path("unused"))
    start = time.perf_counter()
    model: VideoVAE = adapters.load(vae)
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for i, clip in enumerate(plugins.find("data", config.data).build(config)):
            reference = to_model(clip.load()).unsqueeze(0)
            reconstruction, _ = reconstruct(model, reference)
            pairs.append(
                [write(Path(folder) / f"{i}-{j}.mp4", video) for j, video in enumerate((reference, reconstruction))]
            )
        for metric in METRICS:
            for files in pairs:
                seen, got = (read(file) for file in files)
                if metric == "ssim":
                    for a, b in zip(seen, got, strict=True):
                        structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                              use_sample_covariance=False, data_range=255)  # fmt: skip
                elif metric == "psnr":
                    np.log10(np.square(seen.astype(np.float64) - got).mean(axis=(1, 2, 3)))
                else:
                    error = got.astype(np.float64) - seen
                    np.abs(np.diff(error, axis=0)).mean()
    return time.perf_counter() - start


def write(file: Path, video: torch.Tensor) -> Path:
    frames = to_stored(video)[0].permute(1, 2, 3, 0).contiguous().numpy()
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file


def read(file: Path) -> NDArray[np.uint8]:
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", default="dct/16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    parts(arguments.vae)  # warm: file cache, kernels
    rounds = [(parts(arguments.vae), suite(arguments.vae), common(arguments.vae)) for _ in range(arguments.repeats)]
    record = {
        "benchmark": "harness",
        "vae": arguments.vae,
        "clips": "bundle, 33x256x256",
        "metrics": METRICS,
        "repeats": arguments.repeats,
        "median_s": {
            "suite": statistics.median(suite_s for _, suite_s, _ in rounds),
            "parts": statistics.median(sum(spent.values()) for spent, _, _ in rounds),
            "common": statistics.median(common_s for *_, common_s in rounds),
            **{f"parts: {name}": statistics.median(spent[name] for spent, _, _ in rounds) for name in rounds[0][0]},
        },
        "suite_over_parts": [suite_s / sum(spent.values()) for spent, suite_s, _ in rounds],
        "common_over_suite": [common_s / suite_s for _, suite_s, common_s in rounds],
        "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
