"""Kernels that a causal convolution keeps for the windows of a video: computed once, never of older weights, and released."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wfvae import WFVAE, WFVAEConfig, causal
from wfvae.causal import CausalConv3d, Kernels, Stream, pair_kernels


def conv() -> CausalConv3d:
    """Wide enough for pairs of frames."""
    torch.manual_seed(0)
    return CausalConv3d(64, 64).eval()


def call(layer: CausalConv3d, time: int = 6) -> Tensor:
    """Uses all kernels: an opening frame, two pairs and a single frame."""
    dtype = layer.conv.weight.dtype
    x = torch.randn(1, time, 4, 4, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        return layer(x, Stream(last=True))


def afresh(layer: CausalConv3d) -> Tensor:
    """The output of a layer with the same weights that has kept nothing."""
    new = CausalConv3d(64, 64).to(layer.conv.weight.dtype).eval()
    new.load_state_dict(layer.state_dict())
    return call(new)


def bytes_kept(stream: Stream) -> int:
    kernels = [k for kept in stream.kernels.values() for group in kept._computed.values() for k in group]
    return sum(k.numel() * k.element_size() for k in kernels)


def step(**options: bool) -> Callable[[CausalConv3d], object]:
    def change(layer: CausalConv3d) -> None:
        layer.conv.weight.grad = torch.ones_like(layer.conv.weight)
        torch.optim.AdamW([layer.conv.weight], lr=0.1, **options).step()

    return change


def _halved_by_numpy(layer: CausalConv3d) -> None:
    values = layer.conv.weight.detach().numpy()
    values /= 2


def _replaced_at_any_address(layer: CausalConv3d) -> None:
    layer.conv.weight = nn.Parameter(torch.randn(layer.conv.weight.shape))


def _rounded_by_casts(layer: CausalConv3d) -> None:
    """Without `Module.to`; the last tensor may lie where the first one lay."""
    layer.conv.weight.data = layer.conv.weight.data.half()
    layer.conv.weight.data = layer.conv.weight.data.float()


def _halved_in_inference_mode(layer: CausalConv3d) -> None:
    with torch.inference_mode():
        layer.conv.weight.mul_(0.5)


CHANGES: dict[str, Callable[[CausalConv3d], object]] = {
    "optimizer step": step(foreach=False),
    "signs through .data": lambda layer: layer.conv.weight.data.neg_(),
    "factor 4 through .data": lambda layer: layer.conv.weight.data.mul_(4),
    "order of taps through .data": lambda layer: layer.conv.weight.data.copy_(layer.conv.weight.data.flip(2)),
    "foreach optimizer step": step(foreach=True),
    "fused optimizer step": step(fused=True),
    "load_state_dict": lambda layer: layer.load_state_dict(CausalConv3d(64, 64).state_dict()),
    "load_state_dict by assignment": lambda layer: layer.load_state_dict(
        CausalConv3d(64, 64).state_dict(), assign=True
    ),
    "to another dtype": lambda layer: layer.double(),
    "to another dtype and back": lambda layer: layer.half().float(),
    "another parameter": _replaced_at_any_address,
    "write to data": lambda layer: layer.conv.weight.data.mul_(0.5),
    "other data": _rounded_by_casts,
    "write by NumPy": _halved_by_numpy,
    "write in inference mode": _halved_in_inference_mode,
    "write to the bias": lambda layer: layer.conv.bias.data.add_(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_weight_changes_the_next_call(name: str) -> None:
    layer = conv()
    before = call(layer)
    CHANGES[name](layer)
    after = call(layer)
    assert after.dtype != before.dtype or not torch.equal(after, before)
    assert torch.equal(after, afresh(layer))


@pytest.mark.parametrize("name", ["optimizer step", "load_state_dict", "another parameter"])
def test_a_weight_that_changes_within_a_stream_changes_its_next_piece(name: str) -> None:
    x = torch.randn(1, 8, 4, 4, 64, generator=torch.Generator().manual_seed(1))
    pieces = []
    for keep in (True, False):
        layer, stream = conv(), Stream()
        with torch.no_grad():
            layer(x[:, :4], stream)
            torch.manual_seed(2)
            with torch.enable_grad():
                CHANGES[name](layer)
            if not keep:
                stream.kernels.clear()
            pieces.append(layer(x[:, 4:], stream))
    assert torch.equal(*pieces)


def test_kernels_of_inference_mode_serve_other_modes_and_gradients() -> None:
    layer = conv()
    with torch.inference_mode():
        expected = call(layer).clone()
    assert torch.equal(call(layer), expected)
    x = torch.randn(1, 6, 4, 4, 64, requires_grad=True)
    layer(x, Stream(last=True)).sum().backward()
    assert layer.conv.weight.grad is not None


def test_two_layers_keep_their_own_kernels() -> None:
    first, second = conv(), conv()
    with torch.no_grad():
        second.conv.weight.neg_()
    outputs = [call(layer) for layer in (first, second, first, second)]
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])
    assert torch.equal(outputs[1], afresh(second))
    assert not torch.equal(outputs[0], outputs[1])


def test_kernels_are_computed_once_for_all_pieces_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    for name in ("opening_kernels", "pair_kernels", "tap_kernels"):
        monkeypatch.setattr(causal, name, _counted(getattr(causal, name), computed))
    layer, stream = conv(), Stream()
    with torch.no_grad():
        for _ in range(3):
            layer(torch.randn(1, 6, 4, 4, 64), stream)
    assert sorted(computed) == ["opening_kernels", "pair_kernels", "tap_kernels"]


def test_kernels_are_computed_once_for_all_windows_of_a_full_video(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    monkeypatch.setattr(causal, "pair_kernels", _counted(pair_kernels, computed))
    layer, stream = conv(), Stream(last=True)
    with torch.no_grad():
        stream.in_windows(lambda window: layer(window, stream), torch.randn(1, 9, 4, 4, 64), 2)
    assert computed == ["pair_kernels"]


def _counted(compute: Callable[[Tensor], object], computed: list[str]) -> Callable[[Tensor], object]:
    def counted(weight: Tensor) -> object:
        computed.append(compute.__name__)
        return compute(weight)

    return counted


def test_kernels_take_the_memory_that_the_docstring_states() -> None:
    layer, stream = conv(), Stream()
    with torch.no_grad():
        layer(torch.randn(1, 6, 4, 4, 64), stream)
    assert bytes_kept(stream) == pytest.approx(8 / 3 * layer.conv.weight.numel() * 4)


def test_a_full_video_releases_the_kernels_of_a_layer_at_its_last_window() -> None:
    layer, stream = conv(), Stream(last=True)
    held: list[int] = []

    def window(x: Tensor) -> Tensor:
        y = layer(x, stream)
        held.append(bytes_kept(stream))
        return y

    with torch.no_grad():
        stream.in_windows(window, torch.randn(1, 5, 4, 4, 64), 2)
    assert held[0] > 0
    assert held[-1] == 0


def test_a_model_gives_the_same_bits_with_and_without_kept_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "PAIRS_PAY", 1)
    torch.manual_seed(0)
    model = WFVAE(WFVAEConfig(8, 4, encoder_flow_channels=8, decoder_flow_channels=8)).eval()
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        mean = model.encode(video).mean
        outputs = [mean, model.decode(mean), model.encode_long(video, 4).mean, model.decode_long(mean, 1)]
        monkeypatch.setattr(CausalConv3d, "_current_kernels", lambda self, stream: Kernels(self.conv.weight))
        mean = model.encode(video).mean
        expected = [mean, model.decode(mean), model.encode_long(video, 4).mean, model.decode_long(mean, 1)]
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
