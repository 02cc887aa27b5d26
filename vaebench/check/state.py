"""Tests of state: a result depends on the argument alone, not on how many calls or which clips came before."""

from __future__ import annotations

import torch

from vaebench.check.subject import Answer, Subject

CALLS = 10  # of encode, and of decode


def determinism(subject: Subject) -> Answer:
    """The same clip gives the same bits, also after some calls.  It runs first, so its first call is the adapter's first."""
    video = subject.clip(subject.vae.spec.temporal_compression + 1)
    latent = subject.encode(video)
    frames = subject.decode(latent)
    for call in range(2, CALLS + 1):
        if not torch.equal(subject.encode(video), latent):
            return False, f"the same clip gave two latents: call {call} of encode differs from the first"
        if not torch.equal(subject.decode(latent), frames):
            return False, f"the same latent gave two videos: call {call} of decode differs from the first"
    return True, f"{CALLS} calls gave the same bits"


def other_clips(subject: Subject) -> Answer:
    """A clip encoded or decoded in between, of the same shape or another, changes nothing."""
    video = subject.clip(subject.vae.spec.temporal_compression + 1)
    latent = subject.encode(video)
    frames = subject.decode(latent)
    for other in (-video.flip(-1), subject.clip(video.shape[2] + 1)):
        other_latent = subject.encode(other)
        if not torch.equal(subject.decode(latent), frames):
            return False, "decode gives another video after another clip was encoded: it remembers that clip"
        subject.decode(other_latent)
        if not torch.equal(subject.encode(video), latent):
            return False, "encode gives another latent after another clip was decoded: it remembers that clip"
        if not torch.equal(subject.decode(latent), frames):
            return False, "decode gives another video after another latent was decoded: it remembers that latent"
    return True, "clips in between change no bit"
