"""The hops of a protocol that hands over pixels: decode a window, process its last frames, encode them into the next window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vaebench.relay import pixels
from vaebench.relay.content import Timeline
from vaebench.vae import Posterior, VAESpec, VideoVAE, check_latent, check_posterior, decode_as, pad

if TYPE_CHECKING:
    from vaebench.video import Latent, Video


def encoded(vae: VideoVAE, video: Video) -> Posterior:
    """float (1, 3, T, H, W) in -1..1 -> posterior over (1, c, t, h, w) of the padded video, validated.

    It has copies of the tensors of the VAE, which may reuse their memory in the next call.
    """
    padded = pad(video, vae.spec)
    q = check_posterior(vae, vae.encode(padded))
    mean = check_latent(vae, padded, q.mean).clone()
    return Posterior(mean, None if q.logvar is None else q.logvar.clone())


class Encoder:
    """`encoded` of one VAE.  The last posterior is reused if it is called with the same tensor again, as in `loop`."""

    def __init__(self, vae: VideoVAE) -> None:
        self.vae = vae
        self._last: tuple[Video, Posterior] | None = None

    def __call__(self, video: Video) -> Posterior:
        """float (1, 3, T, H, W) in -1..1 -> posterior over (1, c, t, h, w)."""
        if self._last is None or self._last[0] is not video:
            self._last = video, encoded(self.vae, video)
        return self._last[1]


@dataclass(frozen=True)
class Hop:
    """The result of one hop: `carried` is what the next window begins with, `reference` what it would be without any loss."""

    number: int  # from 1; 0 is the source
    carried: Video  # (1, 3, K, H, W), after the pixel operations
    reference: Video  # (1, 3, K, H, W)
    decoded: Video  # (1, 3, W, H, W), before the pixel operations
    latent: Latent  # (1, c, t, h, w) of the decoded window; empty for the source


def run(
    encoder: Encoder,
    timeline: Timeline,
    hops: int,
    *,
    posterior: str = "mode",
    generator: torch.Generator | None = None,
) -> Iterator[Hop]:
    """Yield the source and then each hop of a protocol that hands over pixels.

    Args:
        posterior: "mode" or "sample"
        generator: random generator for "sample"

    Raises:
        ValueError: the VAE returns a wrong shape or non-finite pixels
    """
    relay = timeline.relay
    carried, window = timeline.carried(0), timeline.window(0)
    yield Hop(0, carried, carried, window, window.new_empty(0))
    for number in range(1, hops + 1):
        q = _posterior(window, carried if number > 1 else None, encoder, timeline)
        latent = q.mode() if posterior == "mode" else q.sample(generator)
        decoded = decode_as(encoder.vae, window, latent).clone()
        carried = pixels.apply(relay.handover.operations, decoded[:, :, relay.window - relay.overlap :])
        yield Hop(number, carried, timeline.carried(number - 1), decoded, latent)
        window = timeline.continued(carried, number)


def _posterior(window: Video, carried: Video | None, encoder: Encoder, timeline: Timeline) -> Posterior:
    """The posterior of a window.  Its first latents are those of the carried frames, encoded as the protocol does.

    Only as many latents are replaced as a video of the carried frames alone has.  They differ from the window's own if the
    encoder is not causal.
    """
    relay = timeline.relay
    kind = relay.handover.condition
    count = whole_latents(encoder.vae.spec, relay.overlap)
    if carried is None or kind == "window" or not count:
        return encoder(window)
    if kind == "alone":
        video = carried
    else:
        fill = timeline.source[:, :, :1] if kind == "reference" else torch.zeros_like(carried[:, :, :1])
        video = torch.cat([carried, fill.expand(-1, -1, relay.step, -1, -1)], dim=2)
    first = encoder(video)  # before the window: the posterior of the carried frames may be there already
    rest = encoder(window)
    mean = torch.cat([first.mean[:, :, :count], rest.mean[:, :, count:]], dim=2)
    if first.logvar is None or rest.logvar is None:
        return Posterior(mean)
    return Posterior(mean, torch.cat([first.logvar[:, :, :count], rest.logvar[:, :, count:]], dim=2))


def whole_latents(spec: VAESpec, frames: int) -> int:
    """The number of latents that the longest valid video of at most `frames` frames has; 0 if no such length is valid."""
    valid = next((length for length in range(frames, 0, -1) if spec.frames.allows(length)), 0)
    return spec.latent_frames(valid) if valid else 0
