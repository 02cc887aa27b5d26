"""The model against its plain forward pass, `tests/wfvae_reference.py`."""

from __future__ import annotations

import pytest
import torch

from tests import wfvae_reference as reference
from wfvae import WFVAE, WFVAEConfig, causal


@pytest.mark.parametrize("pairs", [1, 10**9], ids=["pairs", "taps"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"temporal_compression": 8}, {"interpolation": "nearest"}, {"attention": "none", "connect_res_blocks": 0}],
    ids=str,
)
def test_the_model_and_its_streams_equal_the_plain_forward_pass(
    changes: dict[str, object], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "PAIRS_PAY", pairs)
    torch.manual_seed(0)
    flow = {"encoder_flow_channels": 8, "decoder_flow_channels": 4}
    model = WFVAE(WFVAEConfig(**{"base_channels": 8, "latent_channels": 4, **flow, **changes})).double().eval()
    video, latent = torch.rand(2, 3, 17, 16, 24).double() * 2 - 1, torch.randn(2, 4, 3, 2, 3).double()
    with torch.no_grad():
        moments, w2, w3 = reference.encode(model, video)
        expected_video, decoder_w2, decoder_w3 = reference.decode(model, latent)
        encoded, decoded = model.encode_with_coefficients(video), model.decode_with_coefficients(latent)
        streamed_mean, streamed_video = model.encode_long(video, piece=3).mean, model.decode_long(latent, piece=1)
    mean, logvar = moments.chunk(2, dim=1)
    for found, expected in (
        (encoded.posterior.mean, mean),
        (encoded.posterior.logvar, logvar),
        (encoded.w2, w2),
        (encoded.w3, w3),
        (decoded.video, expected_video),
        (decoded.w2, decoder_w2),
        (decoded.w3, decoder_w3),
        (streamed_mean, mean),
        (streamed_video, expected_video),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
