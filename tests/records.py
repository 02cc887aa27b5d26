"""Records of made-up VAEs, whose names say so."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaebench import records
from vaebench.records import Record, Score, by_key

LABELS = ("streamed", "independent-16")
UNTRAINED = "toy-d/tiny"
NAMES = ("toy-a/one", "toy-a/two", "toy-b/one", "toy-c/with-a-long-name", UNTRAINED)


def record(
    suite: str, setting: str, name: str, scores: dict[str, Score], extra: dict | None = None, weights: str = "none",
    config: dict | None = None,
) -> Record:  # fmt: skip
    family, variant = name.split("/")
    vae = {"family": family, "variant": variant, "name": name, "temporal_compression": 4, "spatial_compression": 8,
           "latent_channels": 16, "weights": weights}  # fmt: skip
    asked = {"num_frames": 33, "size": 256, "weights": "", **(config or {})}
    return Record(suite, vae, {}, asked, setting, scores, {}, [], {}, "0" * 16, "2026-01-01", extra=extra or {})


def quality(name: str, **config: object) -> Record:
    frames, size = config.get("num_frames", 33), config.get("size", 256)
    weights = "a" * 64
    return record("reconstruction", f"clips-{frames}x{size}", name, {"psnr": Score(30.0, "dB", "higher", 8, metric="psnr")}, None,
                  weights, config)  # fmt: skip


def costs_of(seconds: float | None, memory: float, dtype: str, frames: int, size: int) -> list[Score]:
    """The scores of one case of the efficiency suite; out of memory where `seconds` is None."""
    case = {"dtype": dtype, "frames": frames, "size": size}
    scores: list[Score] = []
    for half in ("encode", "decode"):
        if seconds is None:
            scores.append(Score(None, "s", "lower", 0, metric=f"{half}_s", condition=case, status="out of memory"))
            continue
        scores += [
            Score(seconds, "s", "lower", 9, metric=f"{half}_s", condition=case),
            Score(frames / seconds, "frames/s", "higher", 9, metric=f"{half}_frames_per_s", condition=case),
            Score(memory, "bytes", "lower", 1, metric=f"{half}_peak_bytes", condition=case),
        ]
    return scores


def cost(name: str, *cases: tuple[str, int, int]) -> Record:
    scores = by_key(score for case in cases for score in costs_of(1.0, 2.0**30, *case))
    return record("efficiency", "toy-device", name, scores, None, "random")


def write_toy_records(folder: Path, names: Sequence[str] = NAMES) -> None:
    """Records of every suite that has figures, for each of these VAEs."""
    rng = np.random.default_rng(0)
    for i, name in enumerate(names):
        weights = "random" if name == UNTRAINED else "none"
        values = 28 + 2 * i + rng.normal(0, 2, 12)
        mean = float(values.mean())
        score = Score(mean, "dB", "higher", 12, 0.5, mean - 1, mean + 1, metric="psnr")
        made = record("reconstruction", "clips-33x256", name, {"psnr": score}, weights=weights)
        records.write(made, folder, {f"clip{j}": {"psnr": float(v)} for j, v in enumerate(values)})
        costs: list[Score] = []
        for frames, size in ((33, 256), (33, 512), (65, 256)):
            seconds = None if i == 3 and size == 512 else (1 + i) * size / 512
            costs += costs_of(seconds, (1 + i) * 2.0**30, "float32", frames, size)
        records.write(record("efficiency", "toy-device", name, by_key(costs)), folder, {})
        changes = [Score(30.0, "dB", "higher", 8, metric="psnr", condition={"mode": "whole"})]
        profiles: dict = {"whole": {"metrics": {"psnr": [30.0] * 33}}}
        curves: dict = {
            "lengths": [5, 17, 33],
            "whole": {"psnr": [None, 30.0, 30.0], "bytes": [1e8, 3e8, 6e8]},
        }
        for label in LABELS:
            off = 0.0 if label == "streamed" else -1.5 - i
            mode = {"mode": label}
            interval = (0.1, off - 0.2, off + 0.2)
            changes.append(Score(off, "dB", "higher", 8, *interval, signed=True, metric="psnr", condition=mode))
            changes.append(Score(abs(off), "", "lower", 8, metric="pixels_max", condition=mode))
            profiles[label] = {"by_frame": [0.01 * (t % 16 == 0) for t in range(33)], "by_step": [0.01] * 32,
                               "by_row": [0.001] * 256, "by_column": [0.001] * 256, "metrics": {"psnr": [29.0] * 33}}  # fmt: skip
            curves[label] = {"psnr": [None, 29.5, 29.0], "bytes": [1e8, 1e8, 1e8]}
        records.write(
            record(
                "blockwise", "clips-33x256", name, by_key(changes), {"profiles": profiles, "by_length": curves}, weights
            ),
            folder,
            {},
        )
        psnr = {"psnr": Score(30.0 - i, "dB", "higher", 8, metric="psnr")}
        records.write(record("latent", "clips-33x256", name, psnr, latent_curves(i), weights), folder, {})


def latent_curves(i: int) -> dict:
    """The curves of the latent suite of VAE number `i`."""
    names = [f"{i:03b}".replace("0", "h").replace("1", "g") for i in range(8)]
    falling = [2.0**-k for k in range(1, 9)]
    bands = {"energy": falling, "share": falling, "entropy_bits": [8.0 - k for k in range(8)]}
    levels = [0.01, 0.1, 0.4]

    def curve(*mean: float) -> dict:
        return {"mean": list(mean), "low": [value - 1 for value in mean], "high": [value + 1 for value in mean]}

    decoder = {name: curve(30.0 - i, 28.0 - i, 20.0) for name in ("added", "added_self", "mixed", "mixed_self")}
    decoder |= {"psnr": curve(30.0 - i), "masked": curve(25.0 - i), "noise": levels, "masks": [0.5]}
    lines = {"frequency": [0.1 * (k + 1) for k in range(8)], "power": falling}
    return {
        "space": lines,
        "time": lines,
        "zigzag": falling,
        "autocorrelation": dict.fromkeys("tyx", falling),
        "eigenvalues": {"raw": falling, "standardized": falling},
        "denoising": {"sigma": levels, "mmse": [0.2, 0.6, 0.9]},
        "subbands": {"names": names, "latents": bands, "pixels": bands},
        "decoder": decoder,
    }
