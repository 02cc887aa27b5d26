"""Tests of hidden state: a result depends on the argument only, not on earlier calls."""

from __future__ import annotations

import torch

from vaebench.check.subject import Answer, Subject

CALLS = 10  # number of calls of encode, and of decode


def determinism(subject: Subject) -> Answer:
    """Repeated calls give bit-identical results.  This test runs first, so that its first call is the first of the adapter."""
    video = subject.clip(subject.vae.spec.temporal_compression + 1)
    latent = subject.encode(video)
    frames = subject.decode(latent)
    for call in range(2, CALLS + 1):
        if not torch.equal(subject.encode(video), latent):
            return False, f"the same clip gave two latents: call {call} of encode differs from the first"
        if not torch.equal(subject.decode(latent), frames):
            return False, f"the same latent gave two videos: call {call} of decode differs from the first"
    return True, f"{CALLS} calls gave bit-identical results"


def other_clips(subject: Subject) -> Answer:
    """Encoding or decoding another clip, of the same or another shape, does not change later results."""
    video = subject.clip(subject.vae.spec.temporal_compression + 1)
    latent = subject.encode(video)
    frames = subject.decode(latent)
    for other in (-video.flip(-1), subject.clip(video.shape[2] + 1)):
        other_latent = subject.encode(other)
        if not torch.equal(subject.decode(latent), frames):
            return False, "decode gives another video after another clip was encoded: it depends on earlier calls"
        subject.decode(other_latent)
        if not torch.equal(subject.encode(video), latent):
            return False, "encode gives another latent after another clip was decoded: it depends on earlier calls"
        if not torch.equal(subject.decode(latent), frames):
            return False, "decode gives another video after another latent was decoded: it depends on earlier calls"
    return True, "results are bit-identical after other clips"
