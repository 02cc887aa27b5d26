"""Tests of shapes, dtypes, lengths, sizes, the facts of the spec, and inputs that must not change."""

from __future__ import annotations

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, finite
from vaebench.vae import LOSSLESS_TOLERANCE, check_latent, check_posterior, check_reconstruction, networks, reconstruct


def weights_checksum(subject: Subject) -> Answer:
    """The sha256 of the weights is the one in the spec."""
    published = subject.vae.spec.sha256
    if subject.weights in ("random", "none"):
        return None, "the VAE has no weights" if subject.weights == "none" else "random weights"
    if not published:
        return None, f"sha256 {subject.weights[:16]}..., no published checksum to compare with"
    return subject.weights == published, f"sha256 {subject.weights[:16]}..., published {published[:16]}..."


def shapes(subject: Subject) -> Answer:
    """Latent and reconstruction have the shapes that the spec defines."""
    vae, video = subject.vae, subject.video
    latent = check_latent(vae, video, subject.encode(video))
    check_reconstruction(vae, video, vae.decode(latent.clone()))  # its message on NaN has a remedy
    return True, f"{tuple(video.shape)} -> {tuple(latent.shape)} -> {tuple(video.shape)}"


def dtype_and_device(subject: Subject) -> Answer:
    """Posterior and video are float32 on the device of the argument, for every dtype of the VAE."""
    video = subject.clip(1)
    posterior = check_posterior(subject.vae, subject.vae.encode(video.clone()))
    results = {"encode's mean": posterior.mean, "encode's logvar": posterior.logvar}
    results["decode's video"] = subject.vae.decode(posterior.mode().clone())
    wrong = [
        f"{what} is {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for what, value in results.items()
        if value is not None and (value.dtype != torch.float32 or value.device != video.device)
    ]
    return not wrong, f"{'; '.join(wrong) + '; expected ' if wrong else ''}float32 on {video.device}"


def parameters(subject: Subject) -> Answer:
    """The number of parameters in the spec is that of the networks of the adapter."""
    stated, modules = subject.vae.spec.parameters, networks(subject.vae)
    if not modules:
        return None, "the adapter has no torch module" + (f"; the spec says {stated:,}" if stated else "")
    counted = sum({id(p): p.numel() for network in modules for p in network.parameters()}.values())
    return counted == stated, f"the networks have {counted:,}, the spec says {stated:,}"


def inputs_unchanged(subject: Subject) -> Answer:
    """Neither encode nor decode changes its argument, during the call or in a later call."""
    video = subject.clip(1)
    video_before = video.clone()
    latent = finite("latent", check_posterior(subject.vae, subject.vae.encode(video)).mode())
    latent_before = latent.clone()
    subject.vae.decode(latent)
    changed = _changed({"encode": (video_before, video), "decode": (latent_before, latent)})
    if changed:
        return False, f"{' and '.join(changed)} changes its input; work on a copy"
    subject.vae.decode(subject.encode(-video))
    changed = _changed({"video": (video_before, video), "latent": (latent_before, latent)})
    return (
        not changed,
        f"a later call changes the {changed[0]} of an earlier one" if changed else "video and latent are unchanged",
    )


def _changed(pairs: dict[str, tuple[Tensor, Tensor]]) -> list[str]:
    return [name for name, (before, after) in pairs.items() if not torch.equal(before, after)]


def frame_rule(subject: Subject) -> Answer:
    """The three shortest valid lengths run without padding, and all lengths between them with padding."""
    spec = subject.vae.spec
    valid = [spec.fit(1)]
    for _ in range(2):
        valid.append(spec.fit(valid[-1] + 1))
    for length in range(valid[0], valid[-1] + 1):
        reconstruct(subject.vae, subject.clip(valid[-1])[:, :, :length])
    return True, f"{spec.frames}: {', '.join(map(str, valid))} frames run, and all lengths between them with padding"


def sizes(subject: Subject) -> Answer:
    """A size that is not a multiple of `size_multiple` runs with padding."""
    size = subject.video.shape[-1]
    reconstruct(subject.vae, subject.clip(1)[..., : size - 1, : size - 3])
    return True, f"{size - 1} x {size - 3} is padded and cropped back"


def batch(subject: Subject) -> Answer:
    """Clips in a batch do not affect each other."""
    video = subject.video
    pair = torch.cat([video, video.flip(-1)])
    alone = subject.encode(video)
    together = subject.encode(pair)[:1]
    difference = distance(alone, together)
    limit = LOSSLESS_TOLERANCE[subject.config.dtype]
    return difference <= limit, f"the latent alone and in a batch of two differ by {difference:.1e}"
