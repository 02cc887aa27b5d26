"""The model against the official numbers, and its API's promises."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.goldens_io import Golden, goldens, rebuild
from wfvae import WFVAE, WFVAEConfig, blocks
from wfvae.causal import Stream
from wfvae.model import Posterior

TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}
KERNELS = ("wavelet_transform",)  # constants, not drawn by the goldens' recipe


def is_model(metadata: dict[str, str]) -> bool:
    return metadata.get("kind") == "vae" and metadata["cls"] == "WFVAEModel"


def build(golden: Golden, dtype: torch.dtype) -> WFVAE:
    model = WFVAE(WFVAEConfig.from_official(golden.json("config")))
    model.load_state_dict(rebuild(model.state_dict(), golden.salt, KERNELS))
    return model.to(dtype).eval()


def last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1)


def first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])


def test_there_are_golden_files_of_every_layout() -> None:
    configs = [WFVAEConfig.from_official(golden.json("config")) for golden in goldens(is_model)]
    found = {(name, getattr(c, name)) for c in configs for name in ("norm", "interpolation", "temporal_compression")}
    assert found >= {("norm", "layernorm"), ("norm", "groupnorm"), ("interpolation", "trilinear")}
    assert found >= {("interpolation", "nearest"), ("temporal_compression", 4), ("temporal_compression", 8)}
    assert {"per-frame", "none"} <= {c.attention for c in configs}


@pytest.mark.parametrize(
    ("dtype", "grad"),
    [(torch.float64, False), (torch.float32, False), (torch.float64, True)],
    ids=["float64", "float32", "float64 with gradients"],
)
@pytest.mark.parametrize("golden", goldens(is_model), ids=str)
def test_model_reproduces_the_official_numbers(golden: Golden, dtype: torch.dtype, grad: bool) -> None:
    model, known = build(golden, dtype), golden.tensors(dtype)
    with torch.set_grad_enabled(grad):
        w1 = model.encoder.wavelet_transform_in(last(known["x"]), Stream(last=True))
        moments, w2, w3 = model.encoder(last(known["x"]), Stream(last=True))
        video, decoder_w2, decoder_w3 = model.decoder(last(known["z"]), Stream(last=True))
    assert_close(first(w1), known["enc_w1"], dtype)
    assert_close(first(moments), known["moments"], dtype)
    assert_close(first(w2), known["enc_w2"], dtype)
    assert_close(first(w3), known["enc_w3"], dtype)
    assert_close(first(video), known["dec"], dtype)
    assert_close(first(decoder_w2), known["dec_w2"], dtype)
    assert_close(first(decoder_w3), known["dec_w3"], dtype)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("golden", goldens(lambda m: is_model(m) and m["T"] == "5" and m["B"] == "2")[-1:], ids=str)
def test_bfloat16_is_no_further_off_than_the_official_code(golden: Golden, autocast: bool) -> None:
    """Which deviates by 0.026 (moments) and 0.055 to 0.069 (video) with random weights; a quarter more is allowed."""
    dtype = torch.float32 if autocast else torch.bfloat16
    model, known = build(golden, dtype), golden.tensors(torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        moments, _, _ = model.encoder(last(known["x"]).to(dtype), Stream(last=True))
        video, _, _ = model.decoder(last(known["z"]).to(dtype), Stream(last=True))
    torch.testing.assert_close(first(moments).float(), known["moments"], rtol=0, atol=0.026 * 1.25)
    torch.testing.assert_close(first(video).float(), known["dec"], rtol=0, atol=0.069 * 1.25)


def test_norms_may_be_in_float32_where_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast on a GPU makes them so, with and without gradients; that of a CPU does not."""
    monkeypatch.setattr(blocks.ChannelNorm, "forward", lambda self, x: self.norm(x.float()))
    model, x = small(torch.float32), torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x, sample_posterior=False).video
        with torch.no_grad():
            found = model(x, sample_posterior=False).video
    torch.testing.assert_close(found.float(), expected.detach().float(), rtol=0, atol=0.02 * expected.std().item())


SMALL = {"base_channels": 8, "latent_channels": 4, "encoder_flow_channels": 8, "decoder_flow_channels": 8}


def small(dtype: torch.dtype = torch.float64, **changes: object) -> WFVAE:
    torch.manual_seed(0)
    return WFVAE(WFVAEConfig(**{**SMALL, **changes})).to(dtype).eval()


def pieces(x: Tensor, cuts: list[int]) -> list[Tensor]:
    edges = [0, *sorted(cuts), x.shape[2]]
    return [x[:, :, start:stop] for start, stop in pairwise(edges) if stop > start]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_length_cut_anywhere_streams_to_the_whole(data: st.DataObject) -> None:
    """The Causal Cache is lossless: also for one frame, for R + 1, for pieces of one frame or one latent."""
    r = data.draw(st.sampled_from([4, 8]))
    model = small(temporal_compression=r, interpolation=data.draw(st.sampled_from(["trilinear", "nearest"])))
    k = data.draw(st.integers(0, 4))
    x = torch.randn(1, 3, 1 + r * k, 8, 8, dtype=torch.float64)
    z = torch.randn(1, 4, 1 + k, 1, 1, dtype=torch.float64)
    frame_cuts = data.draw(st.lists(st.integers(1, r * k), max_size=6)) if k else []
    latent_cuts = data.draw(st.lists(st.integers(1, k), max_size=4)) if k else []
    with torch.no_grad():
        posteriors = list(model.encode_stream(pieces(x, frame_cuts)))
        videos = list(model.decode_stream(pieces(z, latent_cuts)))
        whole, video = model.encode(x), model.decode(z)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(torch.cat([q.mean for q in posteriors], 2), whole.mean, **close)
    torch.testing.assert_close(torch.cat([q.logvar for q in posteriors], 2), whole.logvar, **close)
    torch.testing.assert_close(torch.cat(videos, 2), video, **close)
    assert video.shape == x.shape


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_long_videos_in_pieces_equal_the_whole_in_float32(frames: int) -> None:
    model = small(torch.float32)
    x, z = torch.rand(2, 3, frames, 16, 8) * 2 - 1, torch.randn(2, 4, 1 + frames // 4, 2, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_long(x, piece=4).mean, model.encode(x).mean, rtol=0, atol=2e-5)
        for piece in (1, 2):
            torch.testing.assert_close(model.decode_long(z, piece=piece), model.decode(z), rtol=0, atol=2e-5)


def test_two_streams_at_once_do_not_disturb_each_other() -> None:
    model = small()
    x, y = torch.randn(2, 1, 3, 9, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        alone = [q.mean for q in model.encode_stream(x.split(2, dim=2))]
        first_stream, second_stream = model.encode_stream(x.split(2, dim=2)), model.encode_stream(y.split(2, dim=2))
        together = []
        for q in first_stream:
            together.append(q.mean)
            next(second_stream)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("window", [1, 10**9], ids=["small windows", "one window"])
def test_windows_change_nothing_but_memory(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, z, x = small(), torch.randn(1, 4, 3, 2, 2).double(), torch.rand(1, 3, 9, 16, 16).double()
    expected, moments = model.decode(z), model.encode(x)
    monkeypatch.setitem(blocks.WINDOW, "cpu", window)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(z), expected.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(model.encode(x).mean, moments.mean.detach(), rtol=0, atol=1e-12)


def test_the_encoder_never_looks_ahead() -> None:
    model, x = small(), torch.randn(1, 3, 9, 8, 8).double()
    changed = x.clone()
    changed[:, :, 5:] = 0
    with torch.no_grad():
        assert torch.equal(model.encode(x).mean[:, :, :2], model.encode(changed).mean[:, :, :2])


def test_inputs_are_left_as_they_were() -> None:
    model, x, z = small(), torch.randn(1, 3, 5, 8, 8).double(), torch.randn(1, 4, 2, 1, 1).double()
    before = x.clone(), z.clone()
    with torch.no_grad():
        model.encode(x)
        model.decode(z)
        list(model.decode_stream([z[:, :, :1], z[:, :, 1:]]))
    assert torch.equal(x, before[0])
    assert torch.equal(z, before[1])


@pytest.mark.parametrize("changes", [{}, {"temporal_compression": 8}, {"interpolation": "nearest"}], ids=str)
def test_every_parameter_gets_a_gradient_that_finite_differences_confirm(changes: dict[str, object]) -> None:
    model = small(**changes)
    x = torch.rand(1, 3, 9, 16, 8, dtype=torch.float64) * 2 - 1  # two tokens: attention over one has no gradient

    def loss() -> Tensor:
        out = model(x, sample_posterior=False)
        flow = (out.encoder_w2 - out.decoder_w2).square().sum() + (out.encoder_w3 - out.decoder_w3).square().sum()
        return (out.video - x).square().mean() + out.posterior.kl().sum() * 1e-3 + flow * 1e-3

    loss().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    for parameter in (model.last_layer, model.encoder.down1[0].weight, model.decoder.conv_in.conv.weight):
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        expected = (parameter.grad * direction).sum().item()
        assert (above - below).item() / (2 * step) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_posterior_is_a_diagonal_gaussian() -> None:
    q = Posterior(torch.full((1, 2, 1, 100, 100), 3.0), torch.full((1, 2, 1, 100, 100), 2.0).log())
    draw = q.sample(torch.Generator().manual_seed(0))
    assert draw.mean().item() == pytest.approx(3.0, abs=0.05)
    assert draw.var().item() == pytest.approx(2.0, rel=0.05)
    assert torch.equal(draw, q.sample(torch.Generator().manual_seed(0)))
    normal = torch.distributions.Normal
    known = torch.distributions.kl_divergence(normal(3.0, 2.0**0.5), normal(0.0, 1.0)).item() * 20_000
    assert q.kl().tolist() == pytest.approx([known], rel=1e-5)
    assert torch.equal(q.mode(), q.mean)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 7, 8, 8), r"1 \+ 4k frames, got 7; the nearest lengths are 5 or 9"),
        ((1, 3, 0, 8, 8), r"got 0; the nearest lengths are 1"),
        ((1, 3, 5, 20, 8), r"multiples of 8, got 20x8; crop or pad to 16x8 or 24x8"),
        ((1, 4, 5, 8, 8), r"video \(B, 3, T, H, W\), got \(1, 4, 5, 8, 8\)"),
        ((3, 5, 8, 8), r"video \(B, 3, T, H, W\)"),
    ],
)
def test_a_video_that_does_not_fit_is_refused_with_what_would(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(torch.float32).encode(torch.zeros(shape))


def test_a_stream_that_ends_at_a_wrong_length_says_so() -> None:
    with torch.no_grad(), pytest.raises(ValueError, match="got 6; the nearest lengths are 5 or 9"):
        list(small(torch.float32).encode_stream([torch.zeros(1, 3, 3, 8, 8)] * 2))
    with torch.no_grad(), pytest.raises(ValueError, match="got 0; the nearest lengths are 1"):
        list(small(torch.float32).encode_stream([]))


def test_a_latent_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latents \(B, 4, t, h, w\), got \(1, 8, 1, 1, 1\)"):
        small(torch.float32).decode(torch.zeros(1, 8, 1, 1, 1))


@pytest.mark.parametrize("changes", [{"norm": "groupnorm", "base_channels": 32}, {"attention": "legacy"}], ids=str)
def test_what_looks_at_all_frames_at_once_cannot_be_streamed(changes: dict[str, object]) -> None:
    flows = {"encoder_flow_channels": 32, "decoder_flow_channels": 32} if "norm" in changes else {}
    model = small(torch.float32, **changes, **flows)
    for call in (
        lambda: list(model.encode_stream([torch.zeros(1, 3, 1, 8, 8)])),
        lambda: list(model.decode_stream([torch.zeros(1, 4, 1, 1, 1)])),
        lambda: model.encode_long(torch.zeros(1, 3, 5, 8, 8)),
        lambda: model.decode_long(torch.zeros(1, 4, 1, 1, 1)),
    ):
        with pytest.raises(ValueError, match="cannot be streamed"):
            call()


def test_whole_and_steady_stream_compile_without_a_graph_break() -> None:
    few = {"encoder_res_blocks": 1, "decoder_res_blocks": 1, "connect_res_blocks": 0}  # tracing a block takes 0.2 s
    model = small(torch.float32, **few)
    x, z = torch.rand(1, 3, 5, 8, 8), torch.randn(1, 4, 3, 1, 1)
    compiled = torch.compile(lambda video: model.decode(model.encode(video).mean), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model.decode(model.encode(x).mean), rtol=0, atol=2e-5)
        whole = model.decode(z)
        stream, decoder = Stream(), model.decoder
        step = torch.compile(lambda piece, state: decoder(piece, state)[0], fullgraph=True, backend="eager")
        found = [decoder(last(z[:, :, :1]), stream)[0], decoder(last(z[:, :, 1:2]), stream)[0]]
        stream.last = True
        found.append(step(last(z[:, :, 2:]), stream))
    torch.testing.assert_close(first(torch.cat(found, dim=1)), whole, rtol=0, atol=2e-5)


def test_group_norm_takes_the_statistics_of_all_frames_however_small_the_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flows = {"encoder_flow_channels": 32, "decoder_flow_channels": 32}
    model = small(norm="groupnorm", base_channels=32, **flows)
    latent = torch.randn(1, 4, 3, 2, 2, dtype=torch.float64)
    expected = model.decode(latent).detach()
    monkeypatch.setitem(blocks.WINDOW, "cpu", 1)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(latent), expected, rtol=0, atol=1e-10)
