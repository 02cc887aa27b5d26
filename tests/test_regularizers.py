"""LCR and LMR against the official SSVAE code's numbers and against closed forms."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.goldens_io import Golden, goldens, named
from wfvae.losses import adaptive_weight, balance, kl_divergence
from wfvae.regularizers import (
    LatentMask,
    LCRConfig,
    LMRConfig,
    local_correlation,
    local_correlation_loss,
    mask_blocks,
)
from wfvae.regularizers import num_masked_blocks as count

LCR = goldens(lambda m: "lcr_config" in m and "dlcr" not in m.get("what", ""))
LMR = goldens(lambda m: "apply_lmr" in m.get("what", ""))
WHOLE = goldens(lambda m: "dlcr" in m.get("what", ""))
SSVAE = LCRConfig(weight=0.02)


def test_there_are_golden_files_of_both_and_of_the_whole_loss() -> None:
    assert LCR
    assert LMR
    assert WHOLE


def config_of(golden: Golden, **settings: float) -> LCRConfig:
    """What the file says of windows and means, SSVAE's defaults for what it leaves out, and `settings`."""
    given = json.loads(golden.metadata.get("lcr_config", "{}"))
    window = given.get("window_size") or json.loads(golden.metadata.get("window_size", "null")) or SSVAE.window
    return LCRConfig(
        window=tuple(window),
        average=given.get("weight_type", SSVAE.average),
        pearson=given.get("ac_renorm", SSVAE.pearson),
        **settings,
    )


@pytest.mark.parametrize("golden", LCR, ids=str)
def test_local_correlation_and_its_gradient_are_the_official_ones(golden: Golden) -> None:
    t, config = golden.tensors(), config_of(golden)
    moments = t["moments"].requires_grad_()
    mean, logvar = moments.chunk(2, dim=1)
    found = local_correlation(mean, config)
    assert found.image.item() == pytest.approx(t["image_localcorr"].item(), abs=2e-6)
    assert found.average.item() == pytest.approx(t["avg_localcorr"].item(), abs=2e-6)
    assert (found.video is None) == ("video_localcorr" not in t)
    if found.video is not None:
        assert found.video.item() == pytest.approx(t["video_localcorr"].item(), abs=2e-6)
    hinges = named("hinge_", t)
    assert hinges
    for threshold, hinge in hinges.items():
        assert F.relu(threshold - found.average).item() == pytest.approx(hinge.item(), abs=2e-6)
    kl = kl_divergence(mean, logvar)
    assert (kl.sum() / len(kl)).item() == pytest.approx(t["kl_loss"].item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found.average, moments)
    expected = t["grad_avg_localcorr_wrt_moments"]
    assert (gradient - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("golden", WHOLE, ids=str)
def test_the_whole_generator_loss_with_lcr_is_the_official_one(golden: Golden) -> None:
    t = golden.tensors()
    (lv,) = golden.numbers("lv=#")
    # the text of the loss: 0.1*0.02*clamp(||dnll/dW_enc||/(||dlcr/dW_enc||+1e-4),0,1e8)
    base, weight, delta, limit = golden.numbers(r"#\*#\*clamp\(.*?\|\|\+#\),0,#\)")
    encoder, decoder = t["W_enc"].requires_grad_(), t["W_dec"].requires_grad_()
    logvar = torch.tensor([lv], requires_grad=True)
    mean, spread = F.conv3d(t["h"], encoder).chunk(2, dim=1)
    error = (t["target"] - F.conv3d(mean, decoder)).abs()
    nll = (error / logvar.exp() + logvar).sum() / len(error)
    config = config_of(
        golden, threshold=float(golden.metadata["thresh"]), base=base, weight=weight, delta=delta, limit=limit
    )
    hinge, correlation = local_correlation_loss(mean, config)
    weight = config.base * config.weight * adaptive_weight(nll, hinge, encoder, config.delta, config.limit)
    kl = kl_divergence(mean, spread).sum() / len(mean)
    total = nll + weight * hinge + float(golden.metadata["kl_weight"]) * kl
    total.backward()
    assert nll.item() == pytest.approx(t["nll"].item(), rel=1e-5)
    assert correlation.average.item() == pytest.approx(t["avg_localcorr"].item(), abs=2e-6)
    assert (weight * hinge).item() == pytest.approx(t["lcr_loss_weighted"].item(), rel=1e-5, abs=1e-7)
    assert total.item() == pytest.approx(t["total"].item(), rel=1e-5)
    for found, key in (
        (encoder.grad, "grad_W_enc"),
        (decoder.grad, "grad_W_dec"),
        (logvar.grad, "grad_logvar"),
    ):
        assert (found - t[key]).abs().max() <= 1e-5 * t[key].abs().max(), key


@pytest.mark.parametrize("golden", goldens(lambda m: "max_limit" in m.get("what", "")), ids=str)
def test_the_weight_of_lcr_is_the_official_one(golden: Golden) -> None:
    t = golden.tensors()
    (delta,) = golden.numbers(r"\|\|\+#\)")
    (limit,) = golden.numbers("LCR uses max #")
    (base,) = golden.numbers(r"multiplied by #\*lcr")
    weights = named("lcr_weight_", t)
    assert weights
    for weight, expected in weights.items():
        found = base * weight * balance(t["nll_grad"], t["aux_grad"], delta, limit)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("golden", LMR, ids=str)
def test_masks_and_masked_latents_are_the_official_ones(golden: Golden) -> None:
    t, m = golden.tensors(), golden.metadata
    ratio = float(m["mask_ratio"])
    z = t["z"]
    shape = (z.shape[2], z.shape[3], z.shape[4])
    config = LMRConfig((ratio,), (1.0,), block=tuple(json.loads(m["block_size"])))
    assert count(shape, ratio, config) == int(m["n_blocks"])
    chosen = t.get("block_indices", torch.zeros(0, dtype=torch.int64))
    mask = mask_blocks(shape, chosen, config)
    assert torch.equal(mask.expand(t["mask"].shape), t["mask"].bool())
    layer = LatentMask(z.shape[1], config)
    layer.mask_token.data.copy_(t["mask_token"])
    assert torch.equal(layer(z, mask[None, None]), t["z_masked"])
    # the seed of the golden draws its blocks with torch's own permutation
    torch.manual_seed(int(m["torch_seed"]))
    total = int(m["total_blocks"])
    assert torch.equal(torch.randperm(total)[: len(chosen)], chosen)


def test_correlation_of_constant_directions_is_one_and_of_white_noise_about_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randn(1, 64, 3, 4, 4, generator=generator)
    repeated = blocks.repeat_interleave(2, 3).repeat_interleave(2, 4)
    video = torch.cat([repeated[:, :, :1], repeated[:, :, 1:].repeat_interleave(2, 2)], 2)
    assert local_correlation(video, SSVAE).average.item() == pytest.approx(1.0, abs=1e-5)
    white = torch.randn(1, 256, 5, 16, 16, generator=generator)
    assert abs(local_correlation(white, SSVAE).average.item()) < 0.01


def test_above_the_threshold_lcr_is_exactly_off() -> None:
    mean = torch.randn(1, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss, _ = local_correlation_loss(mean, replace(SSVAE, threshold=-1.0))
    (gradient,) = torch.autograd.grad(loss, mean)
    assert loss.item() == 0
    assert not gradient.any()


def test_a_latent_that_the_windows_do_not_tile_is_refused_with_the_lengths_that_fit() -> None:
    with pytest.raises(ValueError, match=r"1 \+ 8k frames"):
        local_correlation(torch.zeros(1, 4, 2, 4, 4), SSVAE)


def test_official_blocks_never_mask_an_odd_last_frame_and_padded_ones_do() -> None:
    shape = (5, 4, 4)
    for last_block, expected in (("official", False), ("pad", True)):
        config = LMRConfig((0.75,), (1.0,), block=(2, 2, 2), last_block=last_block)
        mask = LatentMask(4, config)
        generator = torch.Generator().manual_seed(0)
        hit = torch.stack([mask.draw(torch.zeros(1, 4, *shape), generator)[0, 0, -1] for _ in range(30)])
        assert hit.any().item() is expected


def test_channel_masks_hide_whole_channels_and_position_masks_all_channels_of_a_position() -> None:
    z = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for kind, where in (
        ("positions", lambda m: m.any(1) == m.all(1)),
        ("channels", lambda m: m.flatten(2).any(2) == m.flatten(2).all(2)),
    ):
        layer = LatentMask(8, LMRConfig((0.5,), (1.0,), mask=kind))
        hidden = (layer(z, layer.draw(z, torch.Generator().manual_seed(3))) == layer.mask_token) & (
            layer.mask_token != z
        )
        assert where(hidden).all()
        assert hidden.float().mean().item() == pytest.approx(0.5)


def test_the_token_learns_and_the_hidden_latent_does_not() -> None:
    z = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layer = LatentMask(4, LMRConfig((0.5,), (1.0,)))
    mask = layer.draw(z, torch.Generator().manual_seed(0))
    layer(z, mask).square().sum().backward()
    assert layer.mask_token.grad.abs().min() > 0
    assert not z.grad[mask.expand_as(z)].any()


def test_ratios_without_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="should have the same length"):
        LMRConfig((0.0, 0.5), (1.0,))
    assert not LMRConfig().active


@pytest.mark.parametrize("bad", [{"window": (2, 1, 1)}, {"window": (0, 2, 2)}, {"weight": -1.0}])
def test_windows_without_a_pair_of_positions_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"lcr\."):
        LCRConfig(**bad)


@pytest.mark.parametrize(
    "bad", [{"ratios": (0.0, 1.5)}, {"probabilities": (1.5, -0.5)}, {"block": (1, 0, 1)}, {"ratios": (-0.1, 0.5)}]
)
def test_impossible_masks_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"lmr\."):
        LMRConfig(**{"ratios": (0.0, 0.5), "probabilities": (0.5, 0.5), **bad})
