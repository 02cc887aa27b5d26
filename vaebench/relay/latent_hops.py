"""The hops of a protocol that hands over latents: nothing is encoded again, and the whole video is decoded once at the end.

Each window has the latents of its own content, which stand for those of a generator.  Its first latents are those of the window
before, blended with its own as far as the protocol blends them.  No round trip accumulates here: what remains is the loss of one
reconstruction, and the protocol's changes of the latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from vaebench.relay.content import Timeline
from vaebench.relay.hops import Encoder, Hop
from vaebench.vae import VAESpec, check_reconstruction

if TYPE_CHECKING:
    from vaebench.video import Latent, Video


def run(
    encoder: Encoder,
    timeline: Timeline,
    hops: int,
    *,
    posterior: str = "mode",
    generator: torch.Generator | None = None,
) -> Iterator[Hop]:
    """Yield the source and then each hop of a protocol that hands over latents; `carried` is in the video that is decoded last.

    Raises:
        ValueError: the latents of the windows do not fit together, or the VAE returns a wrong shape or non-finite pixels
    """
    relay, spec = timeline.relay, encoder.vae.spec
    if spec.frames_per_chunk:
        raise ValueError(
            f"{spec.name} cannot run {relay.name}: its encoder restarts every {spec.frames_per_chunk} frames, so latents of a "
            "window do not continue those of the window before"
        )
    per_step, rest = divmod(relay.step, spec.temporal_compression)
    if rest:
        raise ValueError(
            f"{spec.name} cannot run {relay.name}: each window adds {relay.step} frames, which is not a multiple of its temporal "
            f"compression {spec.temporal_compression}; choose another window="
        )
    yield Hop(0, timeline.carried(0), timeline.carried(0), timeline.window(0), timeline.window(0).new_empty(0))
    if not hops:
        return
    windows: list[Latent] = []
    for number in range(hops):
        q = encoder(timeline.window(number))
        own = q.mode() if posterior == "mode" else q.sample(generator)
        own = own[:, :, : _latents(spec, relay.window)]
        windows.append(_joined(windows, own, per_step, timeline) if windows else own)
    overlap = windows[0].shape[2] - per_step
    latent = torch.cat([windows[0], *(window[:, :, overlap:] for window in windows[1:])], dim=2)
    decoded = _decoded(encoder, latent, relay.step * (hops - 1) + relay.window, timeline.source)
    for number, window in enumerate(windows, start=1):
        start = number * relay.step
        carried = decoded[:, :, start : start + relay.overlap]
        shown = decoded[:, :, start - relay.step : start + relay.overlap]
        yield Hop(number, carried, timeline.carried(number - 1), shown, window)


def _latents(spec: VAESpec, frames: int) -> int:
    return spec.latent_frames(spec.fit(frames))


def _joined(windows: list[Latent], own: Latent, per_step: int, timeline: Timeline) -> Latent:
    """The latents of a window that continues the last one of `windows`; `own` are those of its content."""
    handover, before = timeline.relay.handover, windows[-1]
    if handover.adain:
        own = torch.lerp(own, _as(own, windows[0]), handover.adain)
    overlap = own.shape[2] - per_step
    carried = before[:, :, per_step:]
    head = handover.strength * carried + (1 - handover.strength) * own[:, :, :overlap]
    if handover.crossfade:
        frames_per_latent = timeline.relay.step // per_step
        count = min(overlap, math.ceil(handover.crossfade / frames_per_latent))
        # the share of the new window rises linearly and is neither 0 nor 1
        share = torch.linspace(0, 1, count + 2, dtype=own.dtype, device=own.device)[1:-1].view(-1, 1, 1)
        head = torch.cat(
            [carried[:, :, :-count], torch.lerp(carried[:, :, -count:], head[:, :, -count:], share)], dim=2
        )
    return torch.cat([head, own[:, :, overlap:]], dim=2)


def _as(latent: Latent, first: Latent) -> Latent:
    """`latent` (1, c, t, h, w) with the mean and deviation of each channel of `first` (AdaIN)."""
    axes = (2, 3, 4)
    mean, std = latent.mean(axes, keepdim=True), latent.std(axes, keepdim=True)
    return (latent - mean) / (std + 1e-8) * first.std(axes, keepdim=True) + first.mean(axes, keepdim=True)


def _decoded(encoder: Encoder, latent: Latent, frames: int, source: Video) -> Video:
    """Decode the latents of the whole video -> its first `frames` frames in the size of `source`."""
    vae = encoder.vae
    _, _, _, height, width = source.shape
    multiple = vae.spec.size_multiple
    valid = vae.spec.fit(frames)
    expected = source.new_empty(1).expand(1, 3, valid, height + -height % multiple, width + -width % multiple)
    if vae.spec.latent_shape(expected.shape) != tuple(latent.shape):
        raise ValueError(
            f"{vae.spec.name}: {frames} frames should have latents {vae.spec.latent_shape(expected.shape)}, and the joined "
            f"windows have {tuple(latent.shape)}; choose another window="
        )
    return check_reconstruction(vae, expected, vae.decode(latent))[:, :, :frames, :height, :width]
