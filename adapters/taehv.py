"""TAEHV: tiny video autoencoders for the latents of Wan, HunyuanVideo, CogVideoX, LTX-2, MiniMax-H3 and others.

Ollin Boer Bohan, github.com/madebyollin/taehv.  Modes: "whole" is one pass over all frames, as the released code does by default;
"streamed" takes the frames of one latent at a time, in memory that does not grow with the length, and gives the same to rounding.
The latent is what a diffusion model sees: the parent's, already normalised (CogVideoX: as the parent gives it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from adapters._local import OwnFamily, OwnVAE, without_gradients
from vaebench.vae import FrameRule, Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adapters._nets.taehv import TAEHV, TAEHVConfig
    from vaebench.video import Latent, Video

SOURCE = "github:madebyollin/taehv@1f14a568f24bf8811e0a0ac601613e04fc1581e8:{}.pth#{}"
WIDE = "github:madebyollin/taehv@32ac0146b11007cda5a57b60a3b35653361fb8a4:taeltx2_3_wide.pth#{}"
AHEAD = "the encoder looks {} frames ahead, within the frames of a latent; no posterior"

W21 = VAESpec(
    family="taehv",
    variant="taew2_1",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=16,
    causal=False,
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "streamed"),
    lossless_modes=("streamed",),
    clamps=True,
    source=SOURCE.format("taew2_1", "d6ffa27358914606153bbb790bd1da1c5cf822fd"),
    latent_space="wan-2.1",
    license="MIT",
    reference="github.com/madebyollin/taehv@1f14a56",
    parameters=11_315_539,
    note=f"{AHEAD.format(3)}; the latent is the normalised one of Wan 2.1",
)
HV15 = replace(
    W21,
    variant="taehv1_5",
    latent_space="hunyuanvideo-1.5",
    spatial_compression=16,
    latent_channels=32,
    size_multiple=16,
    source=SOURCE.format("taehv1_5", "73960d2af787dd8e05c9e1df93da27dc0c32deb3"),
    parameters=11_372_012,
    note=f"{AHEAD.format(3)}; the latent is the normalised one of HunyuanVideo 1.5",
)
W22 = replace(
    HV15,
    variant="taew2_2",
    latent_space="wan-2.2",
    latent_channels=48,
    source=SOURCE.format("taew2_2", "4b51ee2578346051cb091d6280213927b9403d61"),
    parameters=11_418_108,
    note=f"{AHEAD.format(3)}; the latent is the normalised one of Wan 2.2 (5B)",
)
LTX2 = replace(
    W21,
    variant="taeltx_2",
    latent_space="ltx-2",
    temporal_compression=8,
    spatial_compression=32,
    latent_channels=128,
    frames=FrameRule(8, 1),
    size_multiple=32,
    source=SOURCE.format("taeltx_2", "415c1d34395097beed07efe5b3b9432771b02d70"),
    parameters=11_759_728,
    note=f"{AHEAD.format(7)}; the latent is the normalised one of LTX-2",
)
VARIANTS = {
    "taew2_1": W21,
    "taehv": replace(
        W21,
        variant="taehv",
        latent_space="hunyuanvideo",
        source=SOURCE.format("taehv", "e1409542548a72fe9259cc6dc92f0504555616c4"),
        note=f"{AHEAD.format(3)}; the latent is the normalised one of HunyuanVideo",
    ),
    "taecvx": replace(
        W21,
        variant="taecvx",
        latent_space="cogvideox",
        frames=FrameRule(8, 1),
        source=SOURCE.format("taecvx", "faf18249d011f1188d28ac3dbcca7d91316baef2"),
        note=f"{AHEAD.format(3)}; the latent is that of CogVideoX, not normalised (unconfirmed by its author); an even number of "
        "latents gives frames that are not trimmed",
    ),
    "taeos1_3": replace(
        W21,
        variant="taeos1_3",
        latent_space="open-sora-1.3",
        source=SOURCE.format("taeos1_3", "932cae63cf7c1f0cbfb37a35cce233e154dd044b"),
        note=f"{AHEAD.format(3)}; the latent is the normalised one of Open-Sora 1.3, not 1.2",
    ),
    "taehv1_5": HV15,
    "taehv1_5_super": replace(
        HV15,
        variant="taehv1_5_super",
        source=SOURCE.format("taehv1_5_super", "b69a23b4db996fe47ca75371a0f840b5def1ce83"),
        parameters=20_470_572,
    ),
    "taew2_2": W22,
    "taew2_2_super": replace(
        W22,
        variant="taew2_2_super",
        source=SOURCE.format("taew2_2_super", "88641133a999bd6a9f4aa17a41d2bc9b6241d077"),
        parameters=20_487_996,
    ),
    "taeh3": replace(
        HV15,
        variant="taeh3",
        latent_space="minimax-h3",
        latent_channels=24,
        causal=True,
        frames=FrameRule(17, 5),
        frames_per_chunk=17,
        source=SOURCE.format("taeh3", "8c459d15868be182ca52f95c82410767e06ef510"),
        parameters=11_348_964,
        note="17 frames are encoded at a time, causally; the decoder does not restart; no posterior; the latent is the "
        "normalised one of MiniMax-H3",
    ),
    "taeltx_2": LTX2,
    "taeltx2_3": replace(
        LTX2,
        variant="taeltx2_3",
        latent_space="ltx-2.3",
        source=SOURCE.format("taeltx2_3", "d1b7ab9b7e106aed3b1ca907dc3ec02ef8e61005"),
        note=f"{AHEAD.format(7)}; the latent is the normalised one of LTX-2.3",
    ),
    "taeltx2_3_wide": replace(
        LTX2,
        variant="taeltx2_3_wide",
        latent_space="ltx-2.3",
        source=WIDE.format("1da8954033693369aa34de1840dc0fad00fe7d46"),
        reference="github.com/madebyollin/taehv@32ac014",
        parameters=30_173_104,
        note=f"{AHEAD.format(7)}; the latent is the normalised one of LTX-2.3",
    ),
}


def config_of(variant: str) -> TAEHVConfig:
    """The released network of a variant."""
    from adapters._nets.taehv import TAEHVConfig

    spec = VARIANTS[variant]
    ltx = spec.temporal_compression == 8
    return TAEHVConfig(
        spec.latent_channels,
        patch=spec.spatial_compression // 8,
        pools=(2, 2, 2) if ltx else (2, 2, 1),
        grows=(2, 2, 2) if ltx else (1, 2, 2),
        decoder=variant.rpartition("_")[2] if variant.endswith(("super", "wide")) else "base",
        rule={"taecvx": "even", "taeh3": "chunks"}.get(variant, "trim"),
    )


def _small(variant: str) -> TAEHVConfig:
    return replace(config_of(variant), width=8)


def _network(config: TAEHVConfig) -> TAEHV:
    from adapters._nets.taehv import TAEHV

    return TAEHV(config)


def _enlarge_weights(model: TAEHV) -> None:
    from adapters._nets.taesd import enlarge_weights

    enlarge_weights(model)


class TinyVideoVAE(OwnVAE):
    """A StreamingVAE around the network; "streamed" takes the frames of one latent at a time."""

    def __init__(
        self, spec: VAESpec, model: TAEHV, mode: str, *, device: torch.device | str, dtype: torch.dtype | None
    ) -> None:
        chunk = 1 if mode == "streamed" else 0
        super().__init__(
            spec,
            model,
            lambda video: model.encode(_to_network(video), chunk),
            lambda latent: _from_network(model.decode(latent, chunk)),
            device=device,
            dtype=dtype,
            has_variance=False,
        )
        self.network = model
        self.chunk = chunk

    def encode_stream(self, chunks: Iterable[Video]) -> Iterator[Posterior]:
        """Chunks (B, 3, n, H, W) of one video, cut anywhere -> chunks of its latent."""
        moved = (_to_network(chunk.to(self.device, self.dtype)) for chunk in chunks)
        for latent in without_gradients(self.network.encode_stream(moved)):
            yield Posterior(latent.float())

    def decode_stream(self, chunks: Iterable[Latent]) -> Iterator[Video]:
        """Chunks (B, c, n, h, w) of one latent, cut anywhere -> chunks of its video."""
        moved = (chunk.to(self.device, self.dtype) for chunk in chunks)
        for frames in without_gradients(self.network.decode_stream(moved)):
            yield _from_network(frames).float()


def _to_network(video: Tensor) -> Tensor:
    return (video + 1) / 2


def _from_network(frames: Tensor) -> Tensor:
    """0..1 -> -1..1, clamped as in the release."""
    return frames.clamp(0, 1) * 2 - 1


# a file cannot tell the network of CogVideoX from that of Wan 2.1: a user checkpoint of either is taken for Wan's
OWN = OwnFamily(
    variants=VARIANTS,
    config=config_of,
    small=_small,
    network=_network,
    vae=TinyVideoVAE,
    initialise=_enlarge_weights,
)
load = OWN.load
tiny = OWN.tiny
spec_of = OWN.spec_of
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in
