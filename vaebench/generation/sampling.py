"""From generated latents to scores: decode, the frames that are scored, features, and distances between sets of features.

FVD16 is taken on the first 16 frames, on the 8-bit grid in memory; `frame_codec=jpeg75` puts every frame through a JPEG of
quality 75 first, as the published tools do without meaning to (Pillow ignores their `q=95`).
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaebench import weights
from vaebench.features import c3d, i3d, i3d_torchscript, inception_score, videomae
from vaebench.features.frechet import bootstrap, frechet, noise_floor
from vaebench.features.mmd import kvd
from vaebench.features.validation import full_precision
from vaebench.files import draft
from vaebench.fingerprint import code, fingerprint
from vaebench.generation.latte.diffusion import linear, respaced
from vaebench.generation.latte.model import Latte
from vaebench.generation.latte.sample import Guided, sample
from vaebench.records import FEWEST, Score, Status, by_key
from vaebench.store import Store
from vaebench.vae import VideoVAE
from vaebench.video import to_score, to_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Scaling
    from vaebench.video import Video

SCORED = 16  # frames
SHOWN = (0, 5, 10, 15)  # frames of a sample that a picture shows
FEW = 256  # videos; below it a Fréchet distance is mostly bias

Extractor = Callable[["Video"], "NDArray"]  # float32 (1, 3, 16, H, H) in 0..1 -> float64 (d,)
FILES = {
    "i3d": ("i3d",),
    "i3d_videogpt": ("i3d_videogpt",),
    "videomae_ssv2": ("videomae_ssv2",),
    "c3d_ucf101": ("c3d_ucf101", "c3d_mean"),
}  # what an extractor reads, by name in `vaebench.weights`


@dataclass(frozen=True)
class Sampling:
    """How videos are drawn from a trained model."""

    steps: str  # of 1000, as `vaebench.generation.latte.diffusion.kept_steps` reads it
    method: Literal["ddpm", "ddim"]
    guidance: float  # of a conditional model; 1 is none


def extractor(name: str, device: torch.device) -> Extractor:
    """The network called `name` (a key of FILES); Unavailable without its files, ValueError if they hold something else."""
    files = [weights.verified(file) for file in FILES[name]]
    if name == "i3d":
        script = i3d_torchscript.extractor(device).network
        return _features(
            lambda video: script(i3d.prepared(video, "stretched"), rescale=False, resize=False, return_features=True)
        )
    if name == "i3d_videogpt":
        network = i3d.load(files[0]).to(device).eval()
        return _features(lambda video: network(i3d.prepared(video, "stretched")))
    if name == "videomae_ssv2":
        videomae_network = videomae.load(files[0]).to(device).eval()
        return _features(lambda video: videomae_network(videomae.prepared(video)))
    c3d_network = c3d.load(*files).to(device)
    return _features(lambda video: c3d_network(2 * video - 1))


def _features(network: Callable[[Tensor], Tensor]) -> Extractor:
    @torch.inference_mode()
    def features(video: Video) -> NDArray:
        with full_precision():
            return np.asarray(network(video)[0].double().cpu())

    return features


def to_frames(video: Video, codec: str) -> Video:
    """float (B, 3, T, H, W) in -1..1, T >= 16 -> float32 (B, 3, 16, H, W) in 0..1 on the 8-bit grid: what is scored."""
    frames = to_score(video[:, :, :SCORED])
    if codec == "none":
        return frames
    from PIL import Image

    stored = (frames * 255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()  # (B, T, H, W, 3)
    for clip in stored:
        for time, frame in enumerate(clip):
            file = BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=75)
            clip[time] = np.asarray(Image.open(file))
    return torch.from_numpy(stored).to(video.device).permute(0, 4, 1, 2, 3).float() / 255


def seed_of(seed: int, number: int) -> int:
    """Of one sample: the same whatever chunk, batch or process makes it."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {number}".encode(), digest_size=7).digest(), "big")


def label_of(seed: int, number: int, classes: int) -> int:
    """Uniform over the classes."""
    return random.Random(f"{seed} label {number}").randrange(classes)


@torch.inference_mode()
def generate(
    model: Latte,
    vae: VideoVAE,
    scaling: Scaling,
    numbers: Sequence[int],
    how: Sampling,
    *,
    seed: int,
    channels: Guided = "all",
) -> list[Video]:
    """The samples of these numbers, decoded one by one: float32 (1, 3, T, H, W), about -1..1.  ValueError if any is not finite."""
    device = model.pos_embed.device
    classes = model.config.classes
    labels = torch.tensor([label_of(seed, number, classes) for number in numbers]) if classes else None
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        latents = sample(
            model,
            respaced(linear(), how.steps),
            [seed_of(seed, number) for number in numbers],
            labels=labels,
            scale=how.guidance if classes else 1.0,
            channels=channels,
            method=how.method,
        )
    broken = int((~latents.isfinite().flatten(1).all(1)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(latents)} samples have values that are not finite: the training has diverged"
        )
    return [vae.decode(scaling.undo(latent[None].float())) for latent in latents]


def picture(videos: Sequence[Video]) -> NDArray:
    """Decoded samples -> uint8 (videos, frames, H, W, 3): four frames of each, a row a sample."""
    some = torch.cat([to_score(video[:, :, list(SHOWN)]) for video in videos])
    return some.mul(255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()


def write_video(file: Path, videos: Sequence[Video]) -> None:
    """Decoded samples (1, 3, T, H, W) as one mp4 (H.264, 8 frames/s as Latte's), four beside each other, T frames long."""
    import av

    frames = torch.cat([to_stored(video) for video in videos]).permute(0, 2, 3, 4, 1).cpu().numpy()
    count, length, height, width, _ = frames.shape
    columns = min(4, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, *frames.shape[1:]), np.uint8)  # black where the last row is not full
    sheet[:count] = frames
    sheet = sheet.reshape(rows, columns, *frames.shape[1:]).transpose(2, 0, 3, 1, 4, 5)
    sheet = sheet.reshape(length, rows * height, columns * width, 3)
    sheet = sheet[:, : rows * height // 2 * 2, : columns * width // 2 * 2]  # colour is stored at half size
    with draft(file) as part, av.open(os.fspath(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "12"})
        stream.height, stream.width = sheet.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in sheet:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def distances(
    name: str, real: NDArray, rebuilt: NDArray, fake: NDArray, *, ddof: int, store: Store | None = None
) -> dict[str, Score]:
    """FVD16 and KVD16 of features (n, d), (n, d), (m, d): fakes against reals, and against the VAE's reconstructions of them.

    The second says how easy the latent space is to generate in, whatever the VAE loses; `rfvd16` is that loss.
    Standard errors take minutes at 2,048 videos: those in `store` are not computed again.
    """
    scores: list[Score] = []
    pairs = {"fvd16": (real, fake, False), "fvd16_vs_rebuilt": (rebuilt, fake, False), "rfvd16": (real, rebuilt, True)}
    for score, (a, b, paired) in pairs.items():
        scores += _fvd(score, a, b, ddof, paired, store)
    for score, (a, b) in {"kvd16": (real, fake), "kvd16_vs_rebuilt": (rebuilt, fake)}.items():
        enough = min(len(a), len(b)) > 1
        note = "unbiased: near 0, of either sign, for equal distributions" if enough else "needs 2 videos a side"
        value = kvd(a, b) if enough else None
        status: Status = "ok" if enough else "too few clips"
        scores.append(Score(value, "", "lower", len(b), signed=True, note=note, metric=score, status=status))
    return by_key(replace(score, metric=f"{score.metric}{tail(name)}") for score in scores)


def standard_error(a: NDArray, b: NDArray, ddof: int, *, paired: bool, store: Store | None) -> float:
    """Of the Fréchet distance, from resampled sets; read from `store` if the same code has computed it of the same features."""
    facts = {
        "code": code(["vaebench.features.frechet"]),
        "sets": [(rows.shape, str(rows.dtype), hashlib.sha256(rows.tobytes()).hexdigest()) for rows in (a, b)],
        **{"ddof": ddof, "paired": paired},
    }
    key = fingerprint(facts)
    if store is not None and (known := store.get(key)) is not None:
        return float(known["stderr"])
    stderr = bootstrap(a, b, paired=paired, ddof=ddof).std(ddof=1)
    if store is not None:
        store.put(key, {"stderr": np.float64(stderr)})
    return float(stderr)


def tail(name: str) -> str:
    """The end of the metrics' names that says which features they compare; none for I3D."""
    return "" if name == "i3d" else f"_{name}"


def _fvd(score: str, a: NDArray, b: NDArray, ddof: int, paired: bool, store: Store | None) -> list[Score]:
    """The distance with its 95 % interval (normal, standard error from resampled sets), its noise floor, and what is above it.

    `paired`: row i of both sets is one clip.  A distance is not negative, so the interval ends at 0.
    """
    n = min(len(a), len(b))
    if n < 2:
        note = "a Fréchet distance needs 2 videos a side"
        return [Score(None, "", "lower", n, note=note, metric=score, status="too few clips")]
    value, floor = frechet(a, b, ddof=ddof), noise_floor(a, b)
    stderr = half = None
    if n >= FEWEST:
        stderr = standard_error(a, b, ddof, paired=paired, store=store)
        half = 1.96 * stderr
    few = f"; of {n} videos it is mostly bias" if n < FEW else ""
    few += "; these two sets are paired, so its own floor is lower" if paired else ""
    note = (
        f"compare only at equal n ({len(a)} and {len(b)} videos); {score}_floor is what two equal sets would give{few}"
    )
    low, high = (None, None) if half is None else (max(value - half, 0.0), value + half)
    scores = [
        Score(value, "", "lower", n, stderr, low, high, note=note, metric=score),
        Score(floor, "", "neither", n, metric=f"{score}_floor"),
    ]
    if not paired:  # paired sets have less to take off
        less, said = value - floor, f"{score} less {score}_floor, of either sign"
        low, high = (None, None) if half is None else (less - half, less + half)
        about: dict[str, Any] = {"signed": True, "note": said, "metric": f"{score}_debiased"}
        scores.append(Score(less, "", "lower", n, stderr, low, high, **about))
    return scores


def inception_scores(probabilities: NDArray, reals: NDArray) -> dict[str, Score]:
    """The three forms that are in use, of class probabilities (n, 101); they differ by ten and more on one set.

    `reals`, (m, 101) of real videos, say what can be reached.
    """
    n = len(probabilities)
    if n < 10:
        said = "needs 10 videos"
        return by_key(
            Score(None, "", "higher", n, note=said, metric=name, status="too few clips") for name in INCEPTION
        )
    split = inception_score.is_styleganv_10split(probabilities)
    stderr = split.std / 9**0.5  # of ten parts, whose deviation is divided by 10 as upstream's is
    note = "parts of n/10 videos bias it downward"
    scores = [
        Score(inception_score.is_tgan_1split(probabilities), "", "higher", n, metric="is_tgan_1split"),
        Score(split.mean, "", "higher", n, stderr, note=note, metric="is_styleganv_10split"),
        Score(inception_score.is_debiased(probabilities), "", "higher", n, metric="is_debiased"),
    ]
    if len(reals) >= 10:
        value = inception_score.is_debiased(reals)
        note, m = "the ceiling of is_debiased", len(reals)
        scores.append(Score(value, "", "neither", m, note=note, metric="is_debiased_of_reals"))
    return by_key(scores)


INCEPTION = ("is_tgan_1split", "is_styleganv_10split", "is_debiased")
