"""Haar transforms: against the official numbers, and by what an orthogonal transform must do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.goldens_io import Golden, goldens
from wfvae.causal import Stream
from wfvae.wavelet import (
    SCALE_3D,
    HaarAnalysis2d,
    HaarAnalysis3d,
    HaarSynthesis2d,
    HaarSynthesis3d,
    analyse,
    haar_kernels_2d,
    haar_kernels_3d,
    synthesise,
)


def apply(layer: nn.Module, x: Tensor, stream: Stream | None = None) -> Tensor:
    """Official layout (B, C, T, H, W) in and out."""
    y = layer.to(x.dtype)(x.permute(0, 2, 3, 4, 1), stream or Stream(last=True))
    return y.permute(0, 4, 1, 2, 3)


def not_first(layer: nn.Module, frames: int = 0) -> Stream:
    """A stream in which `layer` has seen the opening of the video already."""
    stream = Stream()
    stream.kept[layer] = torch.zeros(1, frames)
    return stream


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "haar"), ids=str)
def test_transforms_reproduce_the_official_numbers(golden: Golden, dtype: torch.dtype) -> None:
    known = golden.tensors(dtype)
    close = {"rtol": 0, "atol": 1e-6 if dtype == torch.float64 else 2e-5}
    for case in sorted({key.split(".")[0] for key in known}):
        x, coefficients = known[f"{case}.x"], known[f"{case}.coef3d"]
        bands_3d, bands_2d = apply(HaarAnalysis3d(), x), apply(HaarAnalysis2d(), x)
        torch.testing.assert_close(bands_3d, known[f"{case}.haar3d"], **close)
        torch.testing.assert_close(bands_2d, known[f"{case}.haar2d"], **close)
        torch.testing.assert_close(apply(HaarSynthesis3d(), bands_3d), known[f"{case}.ihaar3d_of_haar3d"], **close)
        torch.testing.assert_close(apply(HaarSynthesis2d(), bands_2d), known[f"{case}.ihaar2d_of_haar2d"], **close)
        torch.testing.assert_close(apply(HaarSynthesis3d(), coefficients), known[f"{case}.ihaar3d_first"], **close)
        layer = HaarSynthesis3d()
        later = apply(layer, coefficients, not_first(layer))
        torch.testing.assert_close(later, known[f"{case}.ihaar3d_notfirst"], **close)
        for key in (key for key in known if key.startswith(f"{case}.haar3d_notfirst_frames_0_")):
            frames = x[:, :, : int(key.rsplit("_", 1)[1])].permute(0, 2, 3, 4, 1)
            later = analyse(frames, haar_kernels_3d().to(dtype)).permute(0, 4, 1, 2, 3)
            torch.testing.assert_close(later, known[key], **close)


def test_bands_are_high_pass_along_the_axes_that_their_names_say() -> None:
    t, h, w = torch.meshgrid(*(torch.tensor([1.0, -1.0]).repeat(2) for _ in range(3)), indexing="ij")
    order_3d = [torch.ones(4, 4, 4), w, h, h * w, t, t * w, t * h, t * h * w]
    for band, pattern in enumerate(order_3d):
        found = analyse(pattern[None, ..., None], haar_kernels_3d())
        expected = torch.zeros(8)
        expected[band] = 8 * SCALE_3D
        torch.testing.assert_close(found, expected.expand_as(found))
    for band, pattern in enumerate([torch.ones(4, 4, 4), h, w, h * w]):
        found = analyse(pattern[None, ..., None], haar_kernels_2d())
        expected = torch.zeros(4)
        expected[band] = 2.0
        torch.testing.assert_close(found, expected.expand_as(found))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_synthesis_undoes_analysis_up_to_the_gain_of_the_rounded_constant(
    batch: int, time: int, side: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 2 * time, 2 * side, 4, channels, generator=generator, dtype=torch.float64)
    for kernels, gain in ((haar_kernels_3d().double(), 8 * 0.3536**2), (haar_kernels_2d().double(), 1.0)):
        torch.testing.assert_close(synthesise(analyse(x, kernels), kernels), gain * x, rtol=1e-6, atol=1e-12)


def test_a_loaded_kernel_is_honoured() -> None:
    layer, x = HaarAnalysis3d(), torch.randn(1, 3, 4, 4, 3)
    before = layer(x, Stream(last=True))
    state = {key: value * 2 for key, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    torch.testing.assert_close(layer(x, Stream(last=True)), 2 * before)
