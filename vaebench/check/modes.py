"""Tests that compare a VAE with its other modes, and with values recorded for its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, pattern
from vaebench.vae import LOSSLESS_TOLERANCE, check_shape

CANARIES = Path(__file__).parents[1] / "reference" / "canaries.json"
PROBES = 16  # values recorded of the latent, and of the frames


def block_wise_against_whole(subject: Subject) -> Answer:
    """Modes that claim to be lossless give the output of whole inference; the difference of other modes is printed."""
    spec = subject.vae.spec
    if len(spec.modes) < 2 or spec.modes[0] != "whole":
        return None, "the VAE has a single mode, or no whole mode"
    whole_latent = subject.encode(subject.video)
    whole = subject.decode(whole_latent)
    sentences, passed = [], True
    for mode in spec.modes[1:]:
        try:
            worst = _difference(replace(subject, vae=subject.make(mode)), whole_latent, whole)
        except ValueError as error:
            sentences.append(f"{mode}: {error}")
            passed = False
            continue
        if mode in spec.lossless_modes:
            passed = passed and worst <= LOSSLESS_TOLERANCE[subject.config.dtype]
        claim = " (claims to be lossless)" if mode in spec.lossless_modes else ""
        sentences.append(f"{mode} differs by {worst:.1e}{claim}")
    return passed, "; ".join(sentences)


def _difference(subject: Subject, latent: Tensor, frames: Tensor) -> float:
    """The distance of its latent or, if larger, of its frames of the same latent; infinite for a latent of another shape.

    Raises:
        ValueError: the latent or the frames are not finite, or the frames have another shape
    """
    own = subject.encode(subject.video)
    if own.shape != latent.shape:
        return float("inf")
    own_frames = subject.decode(latent)
    check_shape(subject.vae, tuple(frames.shape), tuple(own_frames.shape))
    return max(distance(latent, own), distance(frames, own_frames))


def canary(subject: Subject) -> Answer:
    """Values of latent and frames equal those recorded for the same weights."""
    recorded = json.loads(CANARIES.read_text()).get(subject.candidate.name)
    if recorded is None:
        return None, "no values are recorded for this VAE"
    if subject.config.dtype != "float32":
        return None, "the recorded values are for float32"
    if recorded["weights"] != subject.weights:
        return None, "the recorded values are for other weights"
    latent, frames = probes(subject)
    worst = max(
        distance(torch.tensor(recorded["latent"]), latent),
        distance(torch.tensor(recorded["frames"]), frames),
    )
    return worst <= 1e-3, f"latent and frames differ from the recorded values by at most {worst:.1e}"


def probes(subject: Subject) -> tuple[Tensor, Tensor]:
    """Values at fixed positions of latent and frames, for a test pattern of 17 frames at 64 pixels or the next valid size."""
    spec = subject.vae.spec
    video = pattern(spec.fit(17), -(-64 // spec.size_multiple) * spec.size_multiple).to(subject.video.device)
    latent = subject.encode(video)
    return _spread(latent), _spread(subject.decode(latent))


def _spread(values: Tensor) -> Tensor:
    flat = values.flatten()
    return flat[torch.linspace(0, len(flat) - 1, PROBES).long()].cpu()
