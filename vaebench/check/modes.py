"""Tests that compare a VAE with its other modes, and with values recorded for its weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, pattern
from vaebench.vae import LOSSLESS_TOLERANCE

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
        vae = subject.make(mode)
        latent = vae.encode(subject.video.clone()).mode()
        same_shape = latent.shape == whole_latent.shape
        differences = [distance(whole_latent, latent)] if same_shape else []
        differences += [distance(whole, vae.decode(whole_latent.clone()))] if same_shape else []
        worst = max(differences, default=float("inf"))
        if mode in spec.lossless_modes:
            passed = passed and worst <= LOSSLESS_TOLERANCE[subject.config.dtype]
        claim = " (claims to be lossless)" if mode in spec.lossless_modes else ""
        sentences.append(f"{mode} differs by {worst:.1e}{claim}")
    return passed, "; ".join(sentences)


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
