"""What is measured at each hop: quality against the source, colour, high frequencies, drift of the latents, cycle and seam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vaebench.metrics.psnr import PSNR
from vaebench.relay import hops, latent_hops
from vaebench.relay.colour import delta_e
from vaebench.relay.hops import Encoder, Hop
from vaebench.video import to_score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.metric import Metric
    from vaebench.relay.content import Timeline
    from vaebench.suite import Statistics
    from vaebench.vae import VAESpec, VideoVAE
    from vaebench.video import Latent, Video

SHOWN = (0, 1, 2, 5, 9)  # hops whose frames are saved


def hops_of(
    encoder: Encoder, timeline: Timeline, count: int, *, posterior: str = "", generator: torch.Generator | None = None
) -> Iterator[Hop]:
    """Yield the source (hop 0) and `count` hops of the protocol of `timeline`.

    Args:
        posterior: "mode" or "sample"; "" = as the protocol
        generator: random generator for "sample"
    """
    run = latent_hops.run if timeline.relay.latents else hops.run
    chosen = posterior or timeline.relay.handover.posterior
    yield from run(encoder, timeline, count, posterior=chosen, generator=generator)


def measure(
    vae: VideoVAE,
    timeline: Timeline,
    count: int,
    metrics: Mapping[str, Metric],
    *,
    posterior: str = "",
    generator: torch.Generator | None = None,
) -> Statistics:
    """Measure `count` hops of one clip.

    Args:
        metrics: label -> metric; each compares the carried frames with those of a lossless relay, as 8-bit pixels

    Returns:
        arrays with one item per hop, from hop 1:
        the metrics;
        "shift" (N, 3): mean error of red, green and blue, in 8-bit levels;
        "delta_e": CIE 1976 difference of the mean colours;
        "high_frequency": variance of the Laplacian, divided by that of the reference; NaN if the reference has none;
        "latent_drift": |E(x_n) - E(x)| / |E(x)| of the carried frames and their reference, in normalised latents;
        "cycle": |E(D(z)) - z| / |z| of the window, in normalised latents;
        "seam": PSNR in dB between the carried frames as the end of one window and as the beginning of the next; NaN at hop 1;
        "overlap_error" (N, k): |E(x_n) - z| / |z| of each carried latent, z being the latents of the same frames in the window;
        and "frames", uint8 (n, H, W, 3): the last carried frame at the hops of SHOWN.
        A protocol that hands over latents encodes nothing again: its cycle, seam and overlap_error are NaN.
    """
    encoder, of_reference = Encoder(vae), Encoder(vae)
    rows: list[dict[str, NDArray]] = []
    frames: list[NDArray] = []
    before: Hop | None = None
    for hop in hops_of(encoder, timeline, count, posterior=posterior, generator=generator):
        if hop.number in SHOWN:
            frames.append(_picture(hop.carried))
        if hop.number:
            rows.append(_row(hop, before, timeline, encoder, of_reference, metrics))
        before = hop
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {**stacked, "frames": np.stack(frames)}


def _row(
    hop: Hop,
    before: Hop | None,
    timeline: Timeline,
    encoder: Encoder,
    of_reference: Encoder,
    metrics: Mapping[str, Metric],
) -> dict[str, NDArray]:
    real, carried = to_score(hop.reference), to_score(hop.carried)
    values: dict[str, Tensor | NDArray | float] = {
        name: metric.measure(real, carried)[0] for name, metric in metrics.items()
    }
    values["shift"] = (hop.carried - hop.reference).double().mean(dim=(0, 2, 3, 4)) * 127.5
    values["delta_e"] = delta_e(hop.carried, hop.reference)
    values["high_frequency"] = high_frequency_ratio(hop.carried, hop.reference)
    values["latent_drift"] = values["cycle"] = values["seam"] = float("nan")
    spec = encoder.vae.spec
    if timeline.relay.latents:
        values["latent_drift"] = _relative(
            normalised(encoder(hop.carried).mode(), spec), normalised(of_reference(hop.reference).mode(), spec)
        )
        values["overlap_error"] = np.full(1, np.nan)
        return _arrays(values)
    again = hops.encoded(encoder.vae, hop.decoded).mode()
    values["cycle"] = _relative(normalised(again, spec), normalised(hop.latent, spec))
    if before is not None and before.number:
        head = hop.decoded[:, :, : timeline.relay.overlap]
        tail = before.decoded[:, :, timeline.relay.window - timeline.relay.overlap :]
        values["seam"] = PSNR().measure(to_score(tail), to_score(head))[0]
    mine = normalised(encoder(hop.carried).mode(), spec)  # last, because the next hop may need it
    values["latent_drift"] = _relative(mine, normalised(of_reference(hop.reference).mode(), spec))
    values["overlap_error"] = _overlap_error(mine, normalised(hop.latent, spec), spec, timeline)
    return _arrays(values)


def _overlap_error(mine: Latent, window: Latent, spec: VAESpec, timeline: Timeline) -> Tensor:
    """(k,) relative error of each carried latent against the latent of the same frames in the window; NaN if there is none."""
    offset, rest = divmod(timeline.relay.step, spec.temporal_compression)
    count = max(hops.whole_latents(spec, timeline.relay.overlap), 1)
    if rest or spec.frames_per_chunk or offset + count > window.shape[2]:
        return torch.full((1,), torch.nan)  # no latent of the window covers the same frames
    mine, last = mine[:, :, :count], window[:, :, offset : offset + count]
    axes = (0, 1, 3, 4)
    return (mine - last).square().sum(axes).sqrt() / last.square().sum(axes).sqrt().clamp_min(1e-12)


def normalised(latent: Latent, spec: VAESpec) -> Latent:
    """(1, c, t, h, w) -> the input of a diffusion model, (z - shift) * scale per channel."""
    shift, scale = (
        torch.as_tensor(value, dtype=latent.dtype, device=latent.device).view(-1, 1, 1, 1)
        for value in (spec.shift, spec.scale)
    )
    return (latent - shift) * scale


def high_frequency_ratio(video: Video, reference: Video) -> float:
    """The variance of the Laplacian of each colour over all frames, as a ratio; NaN if the reference has none."""
    energy, own = (float(_laplacian(x).var(dim=(-1, -2), unbiased=False).mean()) for x in (video, reference))
    return energy / own if own > 1e-9 else float("nan")


def _laplacian(video: Video) -> Tensor:
    """(1, 3, T, H, W) -> (3 * T, 1, H - 2, W - 2): the four neighbours of a pixel minus four times itself."""
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=video.dtype, device=video.device)
    height, width = video.shape[-2:]
    return F.conv2d(video.reshape(-1, 1, height, width), kernel[None, None])


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def _picture(video: Video) -> NDArray:
    """(1, 3, K, H, W) in -1..1 -> uint8 (H, W, 3), the last frame."""
    return to_score(video[:, :, -1:])[0, :, 0].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def _arrays(values: Mapping[str, Tensor | NDArray | float]) -> dict[str, NDArray]:
    return {
        name: np.asarray(value.cpu().numpy() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
        for name, value in values.items()
    }
