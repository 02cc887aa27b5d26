"""Tests of the contract itself: shapes, dtypes, lengths, sizes, the spec's facts, untouched inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance
from vaebench.vae import LOSSLESS_TOLERANCE, check_latent, check_reconstruction, networks, reconstruct


def weights_checksum(subject: Subject) -> Answer:
    published = subject.vae.spec.sha256
    if subject.weights in ("random", "none"):
        return None, f"{subject.weights} weights"
    if not published:
        return None, f"sha256 {subject.weights[:16]}..., and none is published to compare"
    return subject.weights == published, f"sha256 {subject.weights[:16]}..., published {published[:16]}..."


def shapes(subject: Subject) -> Answer:
    vae, video = subject.vae, subject.video
    latent = check_latent(vae, video, subject.encode(video))
    check_reconstruction(vae, video, subject.decode(latent))
    return True, f"{tuple(video.shape)} -> {tuple(latent.shape)} -> {tuple(video.shape)}"


def dtype_and_device(subject: Subject) -> Answer:
    """The posterior and the video are float32, on the device of the argument, whatever the adapter computes in."""
    video = subject.clip(1)
    posterior = subject.vae.encode(video.clone())
    results = {"encode's mean": posterior.mean, "encode's logvar": posterior.logvar}
    results["decode's video"] = subject.decode(posterior.mode())
    wrong = [
        f"{what} is {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for what, value in results.items()
        if value is not None and (value.dtype != torch.float32 or value.device != video.device)
    ]
    return not wrong, f"{'; '.join(wrong) + '; expected ' if wrong else ''}float32 on {video.device}"


def parameters(subject: Subject) -> Answer:
    """The spec's number of parameters is that of the networks which the adapter holds."""
    stated, modules = subject.vae.spec.parameters, networks(subject.vae)
    if not modules:
        return None, "the adapter holds no torch module" + (f"; the spec says {stated:,}" if stated else "")
    counted = sum({id(p): p.numel() for network in modules for p in network.parameters()}.values())
    return counted == stated, f"the networks have {counted:,}, the spec says {stated:,}"


def inputs_unchanged(subject: Subject) -> Answer:
    """Neither encode nor decode writes into its argument, at once or in a later call."""
    video = subject.clip(1)
    video_before = video.clone()
    latent = subject.vae.encode(video).mode()
    latent_before = latent.clone()
    subject.vae.decode(latent)
    changed = _changed({"encode": (video_before, video), "decode": (latent_before, latent)})
    if changed:
        return False, f"{' and '.join(changed)} writes into its input; work on a copy"
    subject.decode(subject.encode(-video))
    changed = _changed({"video": (video_before, video), "latent": (latent_before, latent)})
    return not changed, f"a later call changes the {changed[0]} of an earlier one" if changed else "video and latent"


def _changed(pairs: dict[str, tuple[Tensor, Tensor]]) -> list[str]:
    return [name for name, (before, after) in pairs.items() if not torch.equal(before, after)]


def frame_rule(subject: Subject) -> Answer:
    """The three shortest legal lengths run as they are, and every length between them after padding."""
    spec = subject.vae.spec
    legal = [spec.fit(1)]
    for _ in range(2):
        legal.append(spec.fit(legal[-1] + 1))
    for length in range(legal[0], legal[-1] + 1):
        reconstruct(subject.vae, subject.clip(legal[-1])[:, :, :length])
    return True, f"{spec.frames}: {', '.join(map(str, legal))} frames, and all between them padded"


def sizes(subject: Subject) -> Answer:
    size = subject.video.shape[-1]
    reconstruct(subject.vae, subject.clip(1)[..., : size - 1, : size - 3])
    return True, f"{size - 1} x {size - 3} is padded and cropped back"


def batch(subject: Subject) -> Answer:
    """Clips of one batch do not see each other."""
    video = subject.video
    pair = torch.cat([video, video.flip(-1)])
    alone = subject.encode(video)
    together = subject.encode(pair)[:1]
    difference = distance(alone, together)
    limit = LOSSLESS_TOLERANCE[subject.config.dtype]
    return difference <= limit, f"alone and in a batch of two differ by {difference:.1e}"
