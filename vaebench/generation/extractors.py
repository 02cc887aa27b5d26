"""Feature networks of the diffusability suite, and the frames that they see.

FVD16 uses the first 16 frames, rounded to 8 bits in memory.  `frame_codec=jpeg75` compresses every frame as a JPEG of quality
75 first, as the published tools do by accident (Pillow ignores their `q=95`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vaebench import weights
from vaebench.features import c3d, i3d, i3d_torchscript, videomae
from vaebench.features.validation import full_precision
from vaebench.generation.scores import DISTANCES, INCEPTION, suffix
from vaebench.video import to_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from vaebench.video import Video

SCORED = 16  # frames
Extractor = Callable[["Video"], "NDArray"]  # float32 (1, 3, 16, H, H) in 0..1 -> float64 (d,)
FILES = {
    "i3d": ("i3d",),
    "i3d_videogpt": ("i3d_videogpt",),
    "videomae_ssv2": ("videomae_ssv2",),
    "c3d_ucf101": ("c3d_ucf101", "c3d_mean"),
}  # network -> its files in `vaebench.weights`
FVD_NETWORKS = tuple(name for name in FILES if name != "c3d_ucf101")  # choices of `features=`


def available(
    features: Sequence[str], *, classes: bool, device: torch.device
) -> tuple[dict[str, Extractor], dict[str, str]]:
    """Load the networks for FVD and KVD, and the classifier of the inception scores.

    Args:
        features: names of FVD_NETWORKS
        classes: whether the data set is UCF-101, whose classes the classifier knows
        device: of the networks

    Returns:
        the networks that are available, by name; and for every score that needs another one, why it is unavailable
    """
    extractors: dict[str, Extractor] = {}
    unavailable: dict[str, str] = {}
    for name in dict.fromkeys(features):
        try:
            extractors[name] = extractor(name, device)
        except weights.Unavailable as reason:  # noqa: PERF203 (the others may be available)
            unavailable |= {f"{score}{suffix(name)}": f"unavailable: {reason}" for score in DISTANCES}
    if not classes:
        other = "the classifier only knows the classes of UCF-101 (data=ucf101)"
        return extractors, unavailable | dict.fromkeys(INCEPTION, other)
    try:
        extractors["c3d_ucf101"] = extractor("c3d_ucf101", device)
    except weights.Unavailable as reason:
        unavailable |= dict.fromkeys(INCEPTION, f"unavailable: {reason}")
    return extractors, unavailable


def extractor(name: str, device: torch.device) -> Extractor:
    """The network called `name`, a key of FILES.

    Raises:
        Unavailable: a file of its weights is missing
        ValueError: a file has other contents
    """
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
    """float (B, 3, T, H, W) in -1..1, T >= 16 -> float32 (B, 3, 16, H, W) in 0..1, rounded to 8 bits, for the networks."""
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


def features_of(video: Video, extractors: Mapping[str, Extractor], codec: str) -> dict[str, NDArray]:
    """float (1, 3, T, H, W) in -1..1 -> the features (d,) of every network, by its name."""
    frames = to_frames(video, codec)
    return {name: features(frames) for name, features in extractors.items()}
