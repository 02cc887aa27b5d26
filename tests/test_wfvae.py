"""The model against the official numbers, and its API's promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.goldens_io import Golden, goldens, rebuild
from wfvae import WFVAE, WFVAEConfig
from wfvae.causal import Stream

TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}
KERNELS = ("wavelet_transform",)  # constants, not drawn by the goldens' recipe


def is_model(metadata: dict[str, str]) -> bool:
    return metadata.get("kind") == "vae" and metadata["cls"] == "WFVAEModel"


def build(golden: Golden, dtype: torch.dtype) -> WFVAE:
    model = WFVAE(WFVAEConfig.from_official(golden.json("config")))
    model.load_state_dict(rebuild(model.state_dict(), golden.metadata.get("weights_salt", ""), KERNELS))
    return model.to(dtype).eval()


def last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1)


def first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])


def fits(golden: Golden) -> bool:
    """Whether a length and size are legal; the official code crops the others, and ours says so."""
    config = WFVAEConfig.from_official(golden.json("config"))
    time, height, width = (int(golden.metadata[axis]) for axis in "THW")
    return time % config.temporal_compression == 1 and height % 8 == 0 and width % 8 == 0


@pytest.mark.parametrize("grad", [False, True], ids=["lean", "with gradients"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
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
