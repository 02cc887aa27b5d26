"""Causal layers: against torch's own convolutions and interpolation, and any cut of a stream against the whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wfvae import causal
from wfvae.causal import CausalConv3d, Join, Stream, TemporalUpsample, window_bounds
from wfvae.wavelet import HaarAnalysis3d, HaarSynthesis3d


def video(time: int, channels: int = 3, side: int = 4, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(time)
    return torch.randn(batch, time, side, side, channels, generator=generator, dtype=torch.float64)


def streamed(layer: nn.Module, x: Tensor, cuts: Sequence[int]) -> Tensor:
    stream, found = Stream(), []
    ends = [*cuts, x.shape[1]]
    for start, stop in pairwise([0, *ends]):
        stream.last = stop == x.shape[1]
        found.append(layer(x[:, start:stop], stream))
    return torch.cat(found, dim=1)


@pytest.fixture(params=[1, 10**9], ids=["pairs", "taps"], autouse=True)
def _both_forms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here holds for both forms of the convolution."""
    monkeypatch.setattr(causal, "PAIRS_PAY", request.param)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 7])
def test_a_causal_convolution_is_conv3d_after_repeating_the_first_frame(time: int, stride: int, grad: bool) -> None:
    layer, x = CausalConv3d(3, 5, stride).double(), video(time, batch=2)
    padded = torch.cat([x[:, :1].expand(-1, 2, -1, -1, -1), x], dim=1).permute(0, 4, 1, 2, 3)
    if stride == 2:
        padded = F.pad(padded, (0, 1, 0, 1))
    with torch.set_grad_enabled(grad):
        found = layer(x, Stream(last=True))
    expected = layer.conv(padded).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_its_gradients_are_those_of_conv3d() -> None:
    layer, x = CausalConv3d(2, 3).double(), video(4, channels=2).requires_grad_()
    padded = torch.cat([x[:, :1].expand(-1, 2, -1, -1, -1), x], dim=1).permute(0, 4, 1, 2, 3)
    weights = video(4, channels=3)
    inputs = (x, layer.conv.weight, layer.conv.bias)
    found = torch.autograd.grad((layer(x, Stream(last=True)) * weights).sum(), inputs)
    expected = torch.autograd.grad((layer.conv(padded).permute(0, 2, 3, 4, 1) * weights).sum(), inputs)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_it_convolves_the_normed_input_when_a_norm_is_given() -> None:
    layer, norm, x = CausalConv3d(3, 5).double(), nn.LayerNorm(3).double(), video(3)
    expected = layer(F.silu(norm(x)), Stream(last=True))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(layer(x, Stream(last=True), norm), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("interpolation", ["trilinear", "nearest"])
@pytest.mark.parametrize("time", [1, 2, 3, 6])
def test_upsampling_is_torchs_interpolation_of_all_frames_but_the_first(time: int, interpolation: str) -> None:
    x = video(time)
    found = TemporalUpsample(interpolation)(x, Stream(last=True))
    rest = x[:, 1:].permute(0, 4, 1, 2, 3)
    if time > 1:
        rest = F.interpolate(rest, scale_factor=(2.0, 1.0, 1.0), mode=interpolation)
    torch.testing.assert_close(found, torch.cat([x[:, :1], rest.permute(0, 2, 3, 4, 1)], dim=1), rtol=0, atol=1e-12)


def test_nearest_upsampling_waits_for_nothing() -> None:
    layer, stream = TemporalUpsample("nearest"), Stream()
    assert [layer(video(n), stream).shape[1] for n in (1, 1, 2)] == [1, 2, 4]


def test_linear_upsampling_is_one_frame_late_and_catches_up_at_the_end() -> None:
    layer, stream = TemporalUpsample("trilinear"), Stream()
    assert [layer(video(1), stream).shape[1] for _ in range(4)] == [1, 0, 2, 2]
    stream.last = True
    assert layer(video(1), stream).shape[1] == 4


LAYERS = {
    "conv": lambda: CausalConv3d(3, 4),
    "strided conv": lambda: CausalConv3d(3, 4, stride=2),
    "linear": lambda: TemporalUpsample("trilinear"),
    "nearest": lambda: TemporalUpsample("nearest"),
    "analysis": HaarAnalysis3d,
    "synthesis": lambda: HaarSynthesis3d(),
}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(LAYERS)), st.integers(1, 9), st.lists(st.integers(0, 9), max_size=4), st.booleans())
def test_any_cut_of_a_stream_gives_the_whole(name: str, time: int, cuts: list[int], grad: bool) -> None:
    layer = LAYERS[name]().double()
    x = video(time, channels=8 if name == "synthesis" else 3)
    cuts = sorted(min(cut, time) for cut in cuts)
    with torch.set_grad_enabled(grad):
        whole = layer(x, Stream(last=True))
        torch.testing.assert_close(streamed(layer, x, cuts), whole, rtol=0, atol=1e-12)


def test_a_join_emits_what_both_branches_have() -> None:
    join, stream, x = Join(), Stream(), video(5)
    left, right = join(x[:, :3], x[:, :1], stream)
    assert (left.shape[1], right.shape[1]) == (1, 1)
    left, right = join(x[:, 3:], x[:, 1:4], stream)
    torch.testing.assert_close(left, x[:, 1:4])
    torch.testing.assert_close(right, x[:, 1:4])


def test_nothing_is_kept_after_the_last_piece() -> None:
    stream = Stream(last=True)
    for make in (LAYERS["conv"], LAYERS["linear"], LAYERS["analysis"]):
        make().double()(video(3), stream)
    assert not stream.kept


def test_windows_put_the_odd_frame_first() -> None:
    assert window_bounds(9, 4) == [(0, 5), (5, 9)]
    assert window_bounds(4, 2) == [(0, 2), (2, 4)]
    assert window_bounds(7, 4) == [(0, 5), (5, 7)]
    assert window_bounds(3, 4) == [(0, 3)]
    assert window_bounds(0, 2) == [(0, 0)]


def test_only_the_last_window_of_the_last_piece_is_the_last() -> None:
    for last in (False, True):
        stream, seen = Stream(last), []

        def step(window: Tensor, stream: Stream = stream, seen: list[bool] = seen) -> Tensor:
            seen.append(stream.last)
            return window * 2

        x = video(9)
        assert torch.equal(stream.in_windows(step, x, 4), x * 2)
        assert torch.equal(stream.in_windows(step, x, 4, out=torch.empty_like(x)), x * 2)
        assert seen == [False, last, False, last]
        assert stream.last is last
