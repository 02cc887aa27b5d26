"""Tests against another result of the same VAE: its other modes, and values recorded for its weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, pattern
from vaebench.vae import LOSSLESS_TOLERANCE

CANARIES = Path(__file__).parents[1] / "reference" / "canaries.json"
PROBES = 16  # values of a canary's latent and frames


def block_wise_against_whole(subject: Subject) -> Answer:
    spec = subject.vae.spec
    if len(spec.modes) < 2 or spec.modes[0] != "whole":
        return None, "one mode only"
    whole_latent = subject.encode(subject.video)
    whole = subject.decode(whole_latent)
    said, passed = [], True
    for mode in spec.modes[1:]:
        vae = subject.make(mode)
        latent = vae.encode(subject.video.clone()).mode()
        same_shape = latent.shape == whole_latent.shape
        differences = [distance(whole_latent, latent)] if same_shape else []
        differences += [distance(whole, vae.decode(whole_latent.clone()))] if same_shape else []
        worst = max(differences, default=float("inf"))
        if mode in spec.lossless_modes:
            passed = passed and worst <= LOSSLESS_TOLERANCE[subject.config.dtype]
        claim = ", said to be lossless" if mode in spec.lossless_modes else ""
        said.append(f"{mode} differs by {worst:.1e}{claim}")
    return passed, "; ".join(said)


def canary(subject: Subject) -> Answer:
    """Some values of the latent and of the frames, where they were recorded for these very weights."""
    recorded = json.loads(CANARIES.read_text()).get(subject.candidate.name)
    if recorded is None:
        return None, "nothing recorded"
    if subject.config.dtype != "float32":
        return None, "recorded in float32"
    if recorded["weights"] != subject.weights:
        return None, "recorded for other weights"
    latent, frames = probes(subject)
    worst = max(
        distance(torch.tensor(recorded["latent"]), latent),
        distance(torch.tensor(recorded["frames"]), frames),
    )
    return worst <= 1e-3, f"latent and frames are within {worst:.1e} of the recorded ones"


def probes(subject: Subject) -> tuple[Tensor, Tensor]:
    """Values at fixed places of the latent and of the frames of a 17-frame pattern at 64 pixels (or what fits)."""
    spec = subject.vae.spec
    video = pattern(spec.fit(17), -(-64 // spec.size_multiple) * spec.size_multiple).to(subject.video.device)
    latent = subject.encode(video)
    return _spread(latent), _spread(subject.decode(latent))


def _spread(values: Tensor) -> Tensor:
    flat = values.flatten()
    return flat[torch.linspace(0, len(flat) - 1, PROBES).long()].cpu()
