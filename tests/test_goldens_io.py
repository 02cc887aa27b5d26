"""Golden files with other settings than the committed ones are read by them: a new file needs no code.

Each file here is written by our own code with depths, windows, weights and sizes that no committed file has.  The test of its
kind must pass on it, and must fail where the metadata states another setting.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from adapters._nets.opensora import OpenSoraConfig
from tests import goldens_io
from tests import test_frechet as of_frechet
from tests import test_losses as of_losses
from tests import test_nets_opensora as of_opensora
from tests import test_nets_ssvae as of_ssvae
from tests import test_regularizers as of_regularizers
from tests.goldens_io import Golden, rebuild
from vaebench.features.frechet import frechet
from wfvae import WFVAE, WFVAEConfig
from wfvae.discriminator import PatchDiscriminator3D
from wfvae.losses import adaptive_weight, balance, discriminator_loss, generator_loss, kl_divergence
from wfvae.model import Reconstruction
from wfvae.objective import LossConfig
from wfvae.regularizers import LCRConfig, local_correlation_loss

MISFIT = (AssertionError, RuntimeError)  # another number, or another shape


def write(folder: Path, tensors: dict[str, Tensor], **metadata: object) -> Golden:
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    file = folder / "other.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, file, text)
    return Golden(file, text)


def saying(golden: Golden, **metadata: object) -> Golden:
    """The same file with other metadata."""
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return replace(golden, metadata={**golden.metadata, **text})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_open_sora_of_another_depth(tmp_path: Path) -> None:
    spatial = {"block_out_channels": [32] * 4, "layers_per_block": 1}
    temporal = {"filters": 32, "channel_multipliers": [1] * 4, "num_res_blocks": 1, "embed_dim": 4}
    config = OpenSoraConfig((32,) * 4, (32,) * 4, num_blocks=1, spatial_blocks=1)
    model = of_opensora.build(config, torch.float64, "salt")
    x, z = noise(1, 3, 5, 16, 16).double(), noise(1, 4, 2, 2, 2).double()
    moments, scale, shift = model.encode(x, 5), torch.full((1, 4, 1, 1, 1), 0.5), torch.ones(1, 4, 1, 1, 1)
    mean = moments.chunk(2, dim=1)[0]
    tensors = {
        "x": x, "z": z, "scale": scale, "shift": shift, "moments": moments, "mean": mean, "mode": mean,
        "spatial_moments": model.spatial_moments(x), "latent": (mean - shift) / scale, "z_raw": z * scale + shift,
        "rec": model.decode(z * scale + shift, 5, 5),
    }  # fmt: skip
    settings = {"vae_2d": spatial, "vae_temporal": temporal, "micro_frame_size": 5}
    golden = write(tmp_path, tensors, config=settings, salt="salt")
    of_opensora.test_outputs_are_those_of_the_official_code(golden, torch.float32)
    deeper = {**settings, "vae_2d": {**spatial, "layers_per_block": 2}}
    for other in (saying(golden, config=deeper), saying(golden, salt="")):
        with pytest.raises(MISFIT):
            of_opensora.test_outputs_are_those_of_the_official_code(other, torch.float32)


def discriminator(layers: int) -> PatchDiscriminator3D:
    net = PatchDiscriminator3D(layers, 16, dropout=0.0)
    net.load_state_dict(rebuild(net.state_dict()))
    return net.double()


@torch.no_grad()
def test_a_discriminator_of_another_depth_and_width(tmp_path: Path) -> None:
    x, tensors = noise(1, 3, 5, 16, 16), {}
    net = discriminator(2)
    tensors = {"c0.x": x, "c0.logits_eval": net.eval()(x.double()), "c0.logits_train": net.train()(x.double())}
    tensors |= {f"c0.after_train.{key}": value for key, value in net.state_dict().items() if "running" in key}
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    golden = write(tmp_path, tensors, kw={"input_nc": 3, "n_layers": 2}, state_dict=shapes)
    run = of_losses.test_discriminator_gives_the_official_logits_and_running_statistics
    run(golden, torch.float64)
    with pytest.raises(MISFIT):
        run(saying(golden, kw={"input_nc": 3, "n_layers": 3}), torch.float64)


def test_the_whole_loss_with_other_weights_and_another_discriminator(tmp_path: Path) -> None:
    given = {"loss_type": "l2", "perceptual_weight": 0.5, "kl_weight": 0.01, "wavelet_weight": 0.3, "disc_weight": 0.25}
    network = {
        "base_channels": 8, "latent_dim": 4, "encoder_energy_flow_hidden_size": 8, "decoder_energy_flow_hidden_size": 8,
        "norm_type": "layernorm", "t_interpolation": "trilinear",
    }  # fmt: skip
    model = WFVAE(WFVAEConfig.from_official(network)).double()
    model.load_state_dict(rebuild(model.state_dict(), "", keep=of_losses.HAAR))
    x, eps = noise(1, 3, 5, 16, 16).double(), noise(1, 4, 2, 2, 2, seed=1).double()
    encoded = model.encode_with_coefficients(x)
    decoded = model.decode_with_coefficients(encoded.posterior.mean + (0.5 * encoded.posterior.logvar).exp() * eps)
    output = Reconstruction(decoded.video, encoded.posterior, encoded.w2, encoded.w3, decoded.w2, decoded.w3)
    config = LossConfig("l2", "official", 0.5, 0.01, 0.3, 0.25, delta=1e-6, adaptive_limit=1e6)

    def terms(config: LossConfig, logits: Tensor | None = None) -> dict[str, Tensor]:
        perceptual = lambda a, b: (a - b).square().mean(dim=(1, 2, 3))  # noqa: E731
        last = model.last_layer if logits is not None else None
        found = generator_loss(x, output, config, perceptual=perceptual, fake_logits=logits, last_layer=last)
        return {**found.terms, "total": found.total}

    gen, early = terms(config, discriminator(2).train()(output.video)), terms(replace(config, wavelet=0.0))
    official = {
        "total": "total_loss",
        "nll": "nll_loss",
        "kl": "kl_loss",
        "wavelet": "wl_loss",
        "adversarial": "g_loss",
    }
    scalars = {f"gen.{theirs}": gen[ours].item() for ours, theirs in official.items()}
    scalars["gen.d_weight"] = gen["adversarial_weight"].item()
    scalars["gen_before_disc_start_no_wl.total_loss"] = early["total"].item()
    critic = discriminator(2).train()
    loss = discriminator_loss(critic(x), critic(output.video.detach()))
    (gradient,) = torch.autograd.grad(loss, critic.main[0].weight)
    tensors = {"x": x, "eps": eps, "grad_disc.main.0.weight": gradient}
    golden = write(
        tmp_path, tensors, scalars={**scalars, "disc.disc_loss": loss.item()}, loss=given, config=network,
        note="discriminator input_nc=3 n_layers=2 with keys main.*",
    )  # fmt: skip
    run = of_losses.test_losses_and_their_gradients_are_the_official_ones
    run(golden)
    others = [{"loss": {**given, "loss_type": "l1"}}, {"loss": {**given, "kl_weight": 1e-6}}, {"note": "n_layers=3"}]
    for other in others:
        with pytest.raises(MISFIT):
            run(saying(golden, **other))
    # the second half of the test, before the discriminator starts, has the file's loss type and KL weight too
    for wrong in (replace(config, reconstruction="l1", wavelet=0.0), replace(config, kl=1e-6, wavelet=0.0)):
        total = terms(wrong)["total"].item()
        with pytest.raises(AssertionError):
            run(saying(golden, scalars={**golden.json("scalars"), "gen_before_disc_start_no_wl.total_loss": total}))


WHAT = (
    "clamp(||g_nll||/(||g_aux||+{}),0,max_limit).detach(); GAN uses max 1e3, LCR uses max {} on encoder out conv "
    "and is multiplied by {}*lcr.weight(0.05)"
)


# the limit of LCR: below the ratio of the gradients, which is about 1, and above it
@pytest.mark.parametrize(("limit", "wrong"), [(0.5, [(0.2, 50, 0.3), (0.2, 0.5, 0.1)]), (50, [(1e-4, 50, 0.3)])])
def test_an_adaptive_weight_with_other_limits(limit: float, wrong: list[tuple[float, ...]], tmp_path: Path) -> None:
    a, b = noise(6, 4), noise(6, 4, seed=1)
    tensors = {
        "nll_grad": a,
        "aux_grad": b,
        "weight_max0p5": balance(a, b, 0.2, 0.5).reshape(1),
        "weight_max1e3": balance(a, b, 0.2, 1e3).reshape(1),
        "lcr_weight_0p05": 0.3 * 0.05 * balance(a, b, 0.2, limit).reshape(1),
    }
    golden = write(tmp_path, tensors, what=WHAT.format(0.2, limit, 0.3))
    of_losses.test_balance_of_gradients_is_the_official_one(golden)
    of_regularizers.test_the_weight_of_lcr_is_the_official_one(golden)
    with pytest.raises(AssertionError):
        of_losses.test_balance_of_gradients_is_the_official_one(saying(golden, what=WHAT.format(0.1, limit, 0.3)))
    for settings in wrong:
        with pytest.raises(AssertionError):
            of_regularizers.test_the_weight_of_lcr_is_the_official_one(saying(golden, what=WHAT.format(*settings)))


def test_a_generator_loss_with_another_window_and_other_weights_of_lcr(tmp_path: Path) -> None:
    h, target = noise(1, 8, 5, 8, 8), noise(1, 3, 5, 8, 8, seed=1)
    encoder, decoder = (noise(*shape, 1, 1, 1, seed=2).requires_grad_() for shape in ((12, 8), (3, 6)))
    logvar = torch.tensor([0.3], requires_grad=True)
    mean, spread = F.conv3d(h, encoder).chunk(2, dim=1)
    nll = ((target - F.conv3d(mean, decoder)).abs() / logvar.exp() + logvar).sum()
    config = LCRConfig(weight=0.05, base=0.2, window=(4, 2, 4), threshold=0.9, delta=1e-3, limit=50.0)
    hinge, correlation = local_correlation_loss(mean, config)
    weighted = 0.2 * 0.05 * adaptive_weight(nll, hinge, encoder, 1e-3, 50.0) * hinge
    total = nll + weighted + 0.01 * kl_divergence(mean, spread).sum()
    gradients = torch.autograd.grad(total, [encoder, decoder, logvar], retain_graph=True)
    tensors = {
        "h": h, "target": target, "W_enc": encoder, "W_dec": decoder, "nll": nll.reshape(1), "total": total.reshape(1),
        "avg_localcorr": correlation.average.reshape(1), "lcr_loss_weighted": weighted.reshape(1),
        **dict(zip(("grad_W_enc", "grad_W_dec", "grad_logvar"), gradients, strict=True)),
    }  # fmt: skip
    what = "{weights}*clamp(||dnll/dW_enc||/(||dlcr/dW_enc||+{delta}),0,{limit})*relu(thresh-avg); logvar lv={lv};"
    right = {"weights": "0.2*0.05", "delta": "1e-3", "limit": 50, "lv": 0.3}
    settings = {"what": what.format(**right), "thresh": "0.9", "kl_weight": "0.01"}
    golden = write(tmp_path, tensors, lcr_config={"window_size": [4, 2, 4]}, **settings)
    run = of_regularizers.test_the_whole_generator_loss_with_lcr_is_the_official_one
    run(golden)
    run(saying(golden, lcr_config={}, window_size=[4, 2, 4]))
    wrong = [{"weights": "0.1*0.05"}, {"weights": "0.2*0.02"}, {"limit": 1e8}, {"lv": 0.1}]
    others = [saying(golden, what=what.format(**{**right, **some})) for some in wrong]
    for other in [*others, saying(golden, lcr_config={"window_size": [2, 2, 2]}), saying(golden, kl_weight="0.0005")]:
        with pytest.raises(AssertionError):
            run(other)


def test_references_of_any_number_of_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(60, 4)), rng.normal(size=(40, 4)) + 1
    value = frechet(real, fake)
    for digits, stored in ((60, value), (60, value * (1 + 1e-9))):
        some = {"ref64_unbiased_nuclear": value, "eigh64_unbiased": value, f"mp{digits}_unbiased": stored}
        file = tmp_path / "digits.safetensors"
        numbers = {key: torch.tensor(number, dtype=torch.float64) for key, number in some.items()}
        save_file({"real": torch.from_numpy(real), "fake": torch.from_numpy(fake), **numbers}, file)
        golden, run = (
            Golden(file, {"spec": json.dumps({"n": 60, "m": 40, "d": 4})}),
            of_frechet.test_frechet_is_the_float64_and_the_forty_digit_reference,
        )
        if stored == value:
            run(golden, 1, "unbiased")
        else:
            with pytest.raises(AssertionError):
                run(golden, 1, "unbiased")


@torch.no_grad()
def test_an_ssvae_of_another_depth_states_its_rounding_under_the_names_of_its_tensors(tmp_path: Path) -> None:
    half = {"ch": 4, "ch_mult": [1, 2, 2, 2, 2], "num_res_blocks": 1, "z_channels": 4, "norm": "rmsnorm"}
    encoder = {**half, "temporal_upsample": [False, False, True, True]}
    decoder = {**half, "temporal_upsample": [True, True, False, False]}
    model = of_ssvae.network(of_ssvae.config_of(encoder, decoder), torch.float64)
    x = noise(1, 3, 5, 32, 32)
    moments = model.encode(x.double()).float()
    tensors = {"x": x, "moments": moments, "recon_from_mean": model.decode(moments.double().chunk(2, dim=1)[0]) + 5e-6}
    rounding = {"moments": 1e-7, "recon_from_mean": 6e-6}
    golden = write(tmp_path, tensors, encoder_config=encoder, decoder_config=decoder, fp32_vs_fp64_max_abs=rounding)
    run = of_ssvae.test_outputs_are_those_of_the_released_code
    run(golden, torch.float64)
    for other in ({"moments": 1e-7, "recon": 6e-6}, {"moments": 1e-7, "recon_from_mean": 1e-6}):
        stated = saying(golden, fp32_vs_fp64_max_abs=other)
        if "recon" in other:
            run(stated, torch.float64)
        else:
            with pytest.raises(AssertionError):
                run(stated, torch.float64)


def test_another_set_may_name_its_files_alike_and_a_copy_is_read_once(tmp_path: Path) -> None:
    for folder, value in (("a", 0.0), ("b", 1.0), ("copy of a", 0.0)):
        (tmp_path / folder / "dev").mkdir(parents=True)
        write(tmp_path / folder / "dev", {"x": torch.tensor([value])}, kind="toy")
    folders = tuple(tmp_path / name for name in ("a", "b", "copy of a"))
    found = goldens_io._all(folders)
    assert [golden.path.parent.parent.name for golden in found] == ["a", "b"]
