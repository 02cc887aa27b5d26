"""WF-VAE (arXiv 2411.17459): a causal video VAE whose wavelet coefficients flow around the convolutional backbone.

    encoder                                     decoder
      video -> Haar 3D = W1                       latent -> conv_in, mid ------ last channels -> connect_l2 -> W3
      W1 -> down1 ----------------+ concat              |                                        Haar^-1 (3 ch) = l2
      W1 low band -> Haar = W2 ---+                     up2 ------------- last channels -> connect_l1 -> W2 (+ l2)
      -> down2 -------------------+ concat              |                                        Haar^-1 (3 ch) = l1
      W2 low band -> Haar = W3 ---+                     up1, layer, conv_out (24 ch) + l1 on the low band
      -> mid -> moments                                 -> Haar^-1 3D = video

Attribute names below `encoder` and `decoder` are the official state-dict keys.  The state of a stream is an
argument (`causal.Stream`), and a full video is a stream of one chunk.  `tests/wfvae_reference.py` is the same forward pass in plain
functions, without streams and in-place operations: read it first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wfvae.blocks import (
    Attention,
    Conv2d,
    Downsample,
    ResnetBlock,
    TimeDownsample,
    TimeUpsample,
    Upsample,
    by_windows,
    make_norm,
    run,
)
from wfvae.causal import CausalConv3d, Join, Stream, lean
from wfvae.config import WFVAEConfig
from wfvae.wavelet import HaarAnalysis2d, HaarAnalysis3d, HaarSynthesis2d, HaarSynthesis3d


class Encoder(nn.Module):
    """(B, T, H, W, 3) -> moments (B, t, h, w, 2c) and the coefficients W2, W3, all channels last."""

    def __init__(self, config: WFVAEConfig) -> None:
        super().__init__()
        c, flow, norm = config.base_channels, config.encoder_flow_channels, config.norm
        n, eight = config.encoder_res_blocks, config.temporal_compression == 8
        self.wavelet_transform_in = HaarAnalysis3d()
        self.wavelet_transform_l1 = HaarAnalysis3d() if eight else HaarAnalysis2d()
        self.wavelet_transform_l2 = HaarAnalysis3d()
        self.down1 = nn.ModuleList(
            [
                Conv2d(24, c),
                *(ResnetBlock(c, c, norm, dims=2) for _ in range(n)),
                TimeDownsample(c) if eight else Downsample(c),
            ]
        )
        self.connect_l1 = Conv2d(24 if eight else 12, flow)
        self.down2 = nn.ModuleList(
            [
                Conv2d(c + flow, 2 * c),
                *(ResnetBlock(2 * c, 2 * c, norm) for _ in range(n)),
                TimeDownsample(2 * c),
            ]
        )
        self.connect_l2 = Conv2d(24, flow)
        self.mid = middle(2 * c + flow, 4 * c, 4 * c, config, attended=4 * c)
        self.norm_out = make_norm(norm, 4 * c)
        self.conv_out = CausalConv3d(4 * c, 2 * config.latent_channels)

    def forward(self, video: Tensor, stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
        w1 = self.wavelet_transform_in(video, stream)
        w2 = self.wavelet_transform_l1(w1[..., :3], stream)
        w3 = self.wavelet_transform_l2(w2[..., :3], stream)
        h = self.down1[0](w1, stream)
        del w1
        for layer in self.down1[1:]:  # loops instead of `run`, which free each activation when the next one is computed
            h = layer(h, stream)
        h = torch.cat([h, self.connect_l1(w2, stream)], dim=-1)
        for layer in self.down2:
            h = layer(h, stream)
        h = torch.cat([h, self.connect_l2(w3, stream)], dim=-1)
        h = run(self.mid, h, stream)
        return self.conv_out(h, stream, self.norm_out), w2, w3


class Decoder(nn.Module):
    """(B, t, h, w, c) -> video (B, T, H, W, 3) and the coefficients W2, W3, all channels last."""

    def __init__(self, config: WFVAEConfig) -> None:
        super().__init__()
        c, flow, norm = config.base_channels, config.decoder_flow_channels, config.norm
        n, eight = config.decoder_res_blocks, config.temporal_compression == 8
        self.width = 4 * c
        self.conv_in = CausalConv3d(config.latent_channels, 4 * c)
        self.mid = middle(4 * c, 4 * c, 4 * c + flow, config, attended=4 * c)
        self.up2 = nn.ModuleList(
            [
                *(ResnetBlock(4 * c, 4 * c, norm) for _ in range(n)),
                TimeUpsample(4 * c, config.interpolation),
                ResnetBlock(4 * c, 4 * c + flow, norm),
            ]
        )
        self.up1 = nn.ModuleList(
            [
                *(ResnetBlock(4 * c if i == 0 else 2 * c, 2 * c, norm) for i in range(n)),
                TimeUpsample(2 * c, config.interpolation) if eight else Upsample(2 * c),
                ResnetBlock(2 * c, 2 * c, norm),
            ]
        )
        self.layer = nn.ModuleList([ResnetBlock(2 * c, c, norm), ResnetBlock(c, c, norm)])
        connect = config.connect_res_blocks
        self.connect_l1 = nn.ModuleList(
            [*(ResnetBlock(flow, flow, norm) for _ in range(connect)), Conv2d(flow, 24 if eight else 12)]
        )
        self.connect_l2 = nn.ModuleList([*(ResnetBlock(flow, flow, norm) for _ in range(connect)), Conv2d(flow, 24)])
        self.windowed = norm == "layernorm"  # the statistics of groupnorm are those of all frames
        self.norm_out = make_norm(norm, c)
        self.conv_out = Conv2d(c, 24)
        self.inverse_wavelet_transform_out = HaarSynthesis3d()
        self.inverse_wavelet_transform_l1 = HaarSynthesis3d() if eight else HaarSynthesis2d()
        self.inverse_wavelet_transform_l2 = HaarSynthesis3d()
        self.join_l1, self.join_out = Join(), Join()

    def forward(self, latent: Tensor, stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
        h = run(self.mid, self.conv_in(latent, stream), stream)
        w3 = run(self.connect_l2, h[..., self.width :], stream)
        l2 = self.inverse_wavelet_transform_l2(w3, stream)
        h = h[..., : self.width]
        for layer in self.up2:
            h = layer(h, stream)
        w2 = run(self.connect_l1, h[..., self.width :], stream)
        w2, l2 = self.join_l1(w2, l2, stream)  # up2 looks one frame ahead, the coefficients do not
        w2 = add_low_band(w2, l2)
        l1 = self.inverse_wavelet_transform_l1(w2, stream)
        h = h[..., : self.width]
        for layer in (*self.up1, *self.layer):
            h = layer(h, stream)
        if self.windowed:
            w1 = by_windows(lambda w: self.conv_out(w, stream, self.norm_out), h, stream, (*h.shape[2:4], 24))
        else:
            w1 = self.conv_out(h, stream, self.norm_out)
        w1, l1 = self.join_out(w1, l1, stream)
        return self.inverse_wavelet_transform_out(add_low_band(w1, l1), stream), w2, w3


def middle(c_in: int, c_mid: int, c_out: int, config: WFVAEConfig, attended: int) -> nn.ModuleList:
    """A residual block, the attention if there is one, and another residual block."""
    attention = [Attention(attended, config.norm, config.attention == "legacy")] if config.attention != "none" else []
    return nn.ModuleList([ResnetBlock(c_in, c_mid, config.norm), *attention, ResnetBlock(c_mid, c_out, config.norm)])


def add_low_band(coefficients: Tensor, low: Tensor) -> Tensor:
    """(B, T, H, W, N * 3) + (B, T, H, W, 3) on the first three channels."""
    if lean():
        coefficients[..., :3] += low
        return coefficients
    return torch.cat([coefficients[..., :3] + low, coefficients[..., 3:]], dim=-1)


@dataclass(frozen=True, eq=False)
class Posterior:
    """q(z|x), a diagonal Gaussian: mean and logvar (B, c, t, h, w), logvar within -30..20."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """(B,) KL divergence from the standard normal in nats, summed over everything but the batch."""
        terms = self.mean.square() + self.logvar.exp() - 1.0 - self.logvar
        return 0.5 * terms.flatten(1).sum(dim=1)


@dataclass(frozen=True, eq=False)
class Encoded:
    """The posterior and the wavelet coefficients of the encoder: W2 (B, 12 | 24, T2, H / 4, W / 4), W3 (B, 24, t, h, w)."""

    posterior: Posterior
    w2: Tensor
    w3: Tensor


@dataclass(frozen=True, eq=False)
class Decoded:
    """The video and the wavelet coefficients of the decoder, shaped like the encoder's; w2 includes the inverse of w3 (eq. 2)."""

    video: Tensor
    w2: Tensor
    w3: Tensor


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The output of one pass that the training losses need."""

    video: Tensor
    posterior: Posterior
    encoder_w2: Tensor
    encoder_w3: Tensor
    decoder_w2: Tensor
    decoder_w3: Tensor


def channels_last(video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T, H, W, C), a view."""
    return video.permute(0, 2, 3, 4, 1)


def channels_first(x: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B, C, T, H, W), a view."""
    return x.permute(0, 4, 1, 2, 3)


class WFVAE(nn.Module):
    """float (B, 3, T, H, W) in -1..1 <-> latent (B, c, 1 + k, H / 8, W / 8).

    T = 1 + k * temporal_compression; H and W are multiples of 8.
    """

    def __init__(self, config: WFVAEConfig = WFVAEConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight at which the adaptive adversarial weight compares gradients."""
        weight = self.decoder.conv_out.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def encode(self, video: Tensor) -> Posterior:
        """(B, 3, T, H, W) in -1..1 -> posterior (B, c, t, h, w).

        Raises:
            ValueError: T is not 1 + k * temporal_compression, or H or W is not a multiple of 8
        """
        return self.encode_with_coefficients(video).posterior

    def decode(self, latent: Tensor) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, T, H, W), about -1..1 and not clamped, T = 1 + (t - 1) * temporal_compression."""
        return self.decode_with_coefficients(latent).video

    def encode_with_coefficients(self, video: Tensor) -> Encoded:
        """As `encode`, with the wavelet coefficients of the wavelet loss."""
        self._check_video(video)
        self._check_frames(video.shape[2])
        moments, w2, w3 = self.encoder(channels_last(video), Stream(last=True))
        return Encoded(posterior_of(moments), channels_first(w2), channels_first(w3))

    def decode_with_coefficients(self, latent: Tensor) -> Decoded:
        """As `decode`, with the wavelet coefficients of the wavelet loss."""
        self._check_latent(latent)
        video, w2, w3 = self.decoder(channels_last(latent), Stream(last=True))
        return Decoded(channels_first(video).contiguous(), channels_first(w2), channels_first(w3))

    def forward(
        self, video: Tensor, sample_posterior: bool = True, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """(B, 3, T, H, W) -> its reconstruction from a sample (or the mode) of the posterior, with all coefficients."""
        encoded = self.encode_with_coefficients(video)
        latent = encoded.posterior.sample(generator) if sample_posterior else encoded.posterior.mode()
        decoded = self.decode_with_coefficients(latent)
        return Reconstruction(decoded.video, encoded.posterior, encoded.w2, encoded.w3, decoded.w2, decoded.w3)

    def encode_stream(self, pieces: Iterable[Tensor]) -> Iterator[Posterior]:
        """Chunks (B, 3, n, H, W) of one video, of any lengths -> chunks of its posterior, as soon as they are known.

        Concatenated, they equal `encode` of the full video.

        Raises:
            ValueError: the model cannot be streamed, or (at the end) the frames do not sum to 1 + k * temporal_compression
        """
        self._check_streams()
        stream, frames = Stream(), 0
        for piece in pieces:
            self._check_video(piece)
            frames += piece.shape[2]
            moments, _, _ = self.encoder(channels_last(piece), stream)
            if moments.shape[1]:
                yield posterior_of(moments)
        self._check_frames(frames)

    def decode_stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks (B, c, n, h, w) of one latent, of any lengths -> chunks (B, 3, m, H, W) of its video.

        Concatenated, they equal `decode` of the full latent.  Linear interpolation needs the next latent frame, so the output is
        delayed by one latent frame.

        Raises:
            ValueError: the model cannot be streamed
        """
        self._check_streams()
        stream = Stream()
        for piece, last in with_last(pieces):
            self._check_latent(piece)
            stream.last = last
            video, _, _ = self.decoder(channels_last(piece), stream)
            if video.shape[1]:
                yield channels_first(video).contiguous()

    def encode_long(self, video: Tensor, piece: int = 16) -> Posterior:
        """`encode` in chunks of `piece` frames: the same posterior, in memory that does not grow with T."""
        self._check_frames(video.shape[2])
        found = list(self.encode_stream(video.split(piece, dim=2)))
        return Posterior(torch.cat([p.mean for p in found], 2), torch.cat([p.logvar for p in found], 2))

    def decode_long(self, latent: Tensor, piece: int = 4) -> Tensor:
        """`decode` in chunks of `piece` latent frames: the same video, in memory that (beside the video) does not grow with T."""
        self._check_latent(latent)
        batch, _, time, height, width = latent.shape
        frames = 1 + (time - 1) * self.config.temporal_compression
        video = latent.new_empty(batch, 3, frames, height * 8, width * 8)
        start = 0
        for part in self.decode_stream(latent.split(piece, dim=2)):
            video[:, :, start : start + part.shape[2]] = part
            start += part.shape[2]
        return video

    def _check_video(self, video: Tensor) -> None:
        if video.dim() != 5 or video.shape[1] != 3:
            raise ValueError(f"WF-VAE encodes video (B, 3, T, H, W), got {tuple(video.shape)}")
        height, width = video.shape[3:]
        if height % 8 or width % 8 or not height or not width:
            near = " or ".join(
                f"{max(f(height / 8), 1) * 8}x{max(f(width / 8), 1) * 8}" for f in (math.floor, math.ceil)
            )
            raise ValueError(
                f"WF-VAE takes heights and widths that are multiples of 8, got {height}x{width}; crop or pad to {near}"
            )

    def _check_frames(self, frames: int) -> None:
        r = self.config.temporal_compression
        if frames < 1 or frames % r != 1:
            below = 1 + (frames - 1) // r * r
            near = f"{below} or {below + r}" if below > 0 else "1"
            raise ValueError(f"this WF-VAE takes 1 + {r}k frames, got {frames}; the nearest lengths are {near}")

    def _check_latent(self, latent: Tensor) -> None:
        channels = self.config.latent_channels
        if latent.dim() != 5 or latent.shape[1] != channels or 0 in latent.shape:
            raise ValueError(f"this WF-VAE decodes latents (B, {channels}, t, h, w), got {tuple(latent.shape)}")

    def _check_streams(self) -> None:
        if self.config.norm == "groupnorm":
            raise ValueError(
                "this WF-VAE has norm='groupnorm', whose statistics span all frames of a video: it cannot be streamed "
                "without changing the result; use encode and decode"
            )
        if self.config.attention == "legacy":
            raise ValueError(
                "this WF-VAE has attention='legacy', which mixes time and channels: it cannot be streamed without "
                "changing the result; use encode and decode"
            )


def posterior_of(moments: Tensor) -> Posterior:
    """(B, t, h, w, 2c) -> Posterior."""
    mean, logvar = channels_first(moments).contiguous().chunk(2, dim=1)
    return Posterior(mean, logvar.clamp(-30.0, 20.0))


def with_last(pieces: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Each chunk, and whether it is the last."""
    iterator = iter(pieces)
    piece = next(iterator, None)
    while piece is not None:
        following = next(iterator, None)
        yield piece, following is None
        piece = following
