"""The training objective and the discriminator, against the official code's numbers and against closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.goldens_io import Golden, goldens, named, rebuild
from wfvae import WFVAE, WFVAEConfig
from wfvae.discriminator import PatchDiscriminator3D
from wfvae.losses import (
    LossConfig,
    adaptive_weight,
    balance,
    differentiate_once,
    discriminator_loss,
    generator_loss,
    kl_divergence,
    reconstruction_loss,
    wavelet_loss,
)
from wfvae.model import Posterior, Reconstruction

DTYPES = {torch.float64: 1e-6, torch.float32: 2e-5}
HAAR = ("wavelet_transform",)


def test_there_is_a_golden_file_of_the_whole_objective() -> None:
    assert goldens(lambda m: m.get("kind") == "loss" and "wfvae" in m.get("format", ""))


def discriminator(golden: Golden, dtype: torch.dtype) -> PatchDiscriminator3D:
    """Of the file's depth, which `kw` says or, in the files of the whole loss, the note; and of the width of its first layer."""
    if "kw" in golden.metadata:
        layers, width = golden.json("kw")["n_layers"], golden.json("state_dict")["main.0.weight"][0]
    else:
        (layers,) = golden.numbers("n_layers=#", "note")
        width = len(golden.tensors()["grad_disc.main.0.weight"])
    net = PatchDiscriminator3D(int(layers), width, dropout=0.0)
    net.load_state_dict(rebuild(net.state_dict(), golden.salt))
    return net.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "disc3d"), ids=str)
def test_discriminator_gives_the_official_logits_and_running_statistics(golden: Golden, dtype: torch.dtype) -> None:
    tensors, tolerance = golden.tensors(dtype), DTYPES[dtype]
    names = set(discriminator(golden, dtype).state_dict())
    assert names == set(golden.json("state_dict"))
    for case in sorted({name.split(".")[0] for name in tensors}):
        net = discriminator(golden, dtype)
        with torch.no_grad():
            found = {
                "logits_eval": net.eval()(tensors[f"{case}.x"]),
                "logits_train": net.train()(tensors[f"{case}.x"]),
            }
        found |= {f"after_train.{name}": value for name, value in net.state_dict().items()}
        for key, expected in tensors.items():
            name = key.removeprefix(f"{case}.")
            if key.startswith(f"{case}.") and name != "x":
                error = (found[name] - expected).abs().max() / expected.abs().max().clamp_min(1.0)
                assert error <= tolerance, (key, error)


@pytest.mark.parametrize(
    "golden", goldens(lambda m: m.get("kind") == "loss" and "wfvae" in m.get("format", "")), ids=str
)
def test_losses_and_their_gradients_are_the_official_ones(golden: Golden) -> None:
    tensors, scalars, settings = golden.tensors(torch.float64), golden.json("scalars"), golden.json("loss")
    model = WFVAE(WFVAEConfig.from_official(golden.json("config"))).double()
    salt = golden.salt
    model.load_state_dict(rebuild(model.state_dict(), salt, keep=HAAR))
    network = discriminator(golden, torch.float64).train()
    # the golden was written with the later delta and limit
    config = LossConfig(
        reconstruction=settings["loss_type"],
        perceptual=settings["perceptual_weight"],
        kl=settings["kl_weight"],
        wavelet=settings["wavelet_weight"],
        adversarial=settings["disc_weight"],
        delta=1e-6,
        adaptive_limit=1e6,
    )
    video = tensors["x"]
    encoded = model.encode_with_coefficients(video)
    latent = encoded.posterior.mean + (0.5 * encoded.posterior.logvar).exp() * tensors["eps"]
    decoded = model.decode_with_coefficients(latent)
    output = Reconstruction(decoded.video, encoded.posterior, encoded.w2, encoded.w3, decoded.w2, decoded.w3)

    def per_frame(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean(dim=(1, 2, 3))

    logits = network(output.video)
    found = generator_loss(video, output, config, perceptual=per_frame, fake_logits=logits, last_layer=model.last_layer)
    terms = found.terms
    expected = {
        "total": scalars["gen.total_loss"],
        "nll": scalars["gen.nll_loss"],
        "kl": scalars["gen.kl_loss"],
        "wavelet": scalars["gen.wl_loss"],
        "adversarial": scalars["gen.g_loss"],
        "adversarial_weight": scalars["gen.d_weight"],
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-6), name
    found.total.backward()
    gradients = dict(model.named_parameters())
    for key, value in tensors.items():
        if key.startswith("grad."):
            gradient = gradients[key.removeprefix("grad.")].grad
            assert gradient is not None
            assert (gradient - value).abs().max() <= 1e-6 * value.abs().max().clamp_min(1.0), key

    early = generator_loss(
        video,
        output,
        replace(config, wavelet=0.0),
        perceptual=per_frame,
    )
    assert early.total.item() == pytest.approx(scalars["gen_before_disc_start_no_wl.total_loss"], rel=1e-6)

    network = discriminator(golden, torch.float64).train()
    loss = discriminator_loss(network(video), network(output.video.detach()))
    loss.backward()
    assert loss.item() == pytest.approx(scalars["disc.disc_loss"], rel=1e-6)
    gradients = dict(network.named_parameters())
    for key, value in tensors.items():
        if key.startswith("grad_disc."):
            gradient = gradients[key.removeprefix("grad_disc.")].grad
            assert (gradient - value).abs().max() <= 1e-6 * value.abs().max().clamp_min(1.0), key


@pytest.mark.parametrize("golden", goldens(lambda m: "max_limit" in m.get("what", "")), ids=str)
def test_balance_of_gradients_is_the_official_one(golden: Golden) -> None:
    t = golden.tensors()
    (delta,) = golden.numbers(r"\|\|\+#\)")
    limits = named("weight_max", t)
    assert limits
    for limit, weight in limits.items():
        assert balance(t["nll_grad"], t["aux_grad"], delta, limit).item() == pytest.approx(weight.item(), rel=1e-6)


def output_for(video: torch.Tensor, seed: int = 0) -> Reconstruction:
    generator = torch.Generator().manual_seed(seed)
    b, _, frames, height, width = video.shape
    t = 1 + (frames - 1) // 4

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    w2 = (b, 12, 1 + (frames - 1) // 2, height // 4, width // 4)
    w3, latent = (b, 24, t, height // 8, width // 8), (b, 4, t, height // 8, width // 8)
    posterior = Posterior(draw(*latent), draw(*latent))
    return Reconstruction(video + draw(*video.shape), posterior, draw(*w2), draw(*w3), draw(*w2), draw(*w3))


def repeated(output: Reconstruction, times: int) -> Reconstruction:
    """The same errors in every term, over `times` as many frames."""

    def longer(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x] * times, dim=2)

    posterior = Posterior(longer(output.posterior.mean), longer(output.posterior.logvar))
    return Reconstruction(
        longer(output.video),
        posterior,
        *(longer(getattr(output, n)) for n in ("encoder_w2", "encoder_w3", "decoder_w2", "decoder_w3")),
    )


def test_mean_reduction_does_not_depend_on_length_and_official_lets_kl_and_wavelet_grow() -> None:
    video = torch.rand(2, 3, 5, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    output = output_for(video)
    long_video, long_output = torch.cat([video] * 3, dim=2), repeated(output, 3)
    mean = LossConfig(perceptual=0, reduction="mean")
    official = LossConfig(perceptual=0)
    short, long = (
        generator_loss(video, output, mean).terms,
        generator_loss(long_video, long_output, mean).terms,
    )
    for name in ("pixel", "kl", "wavelet", "total"):
        assert long[name].item() == pytest.approx(short[name].item())
    short, long = (
        generator_loss(video, output, official).terms,
        generator_loss(long_video, long_output, official).terms,
    )
    assert long["pixel"].item() == pytest.approx(short["pixel"].item())
    for name in ("kl", "wavelet"):
        assert long[name].item() == pytest.approx(3 * short[name].item())


def test_official_pixel_term_is_the_sum_over_a_frame_averaged_over_frames() -> None:
    video = torch.zeros(2, 3, 5, 8, 8)
    for kind, value in (("l1", 0.5), ("l2", 0.25)):
        parts = reconstruction_loss(video, video + 0.5, LossConfig(reconstruction=kind, perceptual=0), None)
        assert parts["nll"].item() == pytest.approx(value * 3 * 8 * 8)


def test_kl_is_that_of_two_gaussians() -> None:
    mean, logvar = torch.tensor([0.3, -2.0]), torch.tensor([-1.0, 0.7])
    q = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(kl_divergence(mean, logvar), expected)


def test_wavelet_term_vanishes_for_equal_coefficients_and_is_linear_in_their_difference() -> None:
    video = torch.zeros(1, 3, 5, 16, 16, dtype=torch.float64)
    output = output_for(video)
    same = Reconstruction(
        output.video,
        output.posterior,
        output.decoder_w2,
        output.decoder_w3,
        output.decoder_w2,
        output.decoder_w3,
    )
    assert wavelet_loss(same, "official").item() == 0
    shifted = Reconstruction(
        output.video,
        output.posterior,
        output.decoder_w2 + 0.25,
        output.decoder_w3,
        output.decoder_w2,
        output.decoder_w3,
    )
    assert wavelet_loss(shifted, "mean").item() == pytest.approx(0.25)
    assert wavelet_loss(shifted, "official").item() == pytest.approx(0.25 * output.decoder_w2.numel())


def test_adaptive_weight_of_a_scaled_copy_is_the_scale_up_to_delta_and_limit() -> None:
    layer = torch.ones(3, requires_grad=True)
    loss = (layer * torch.tensor([1.0, 2.0, 2.0])).sum()  # a gradient of norm 3
    assert adaptive_weight(8 * loss, loss, layer, 0.0, 100.0).item() == pytest.approx(8.0)
    assert adaptive_weight(8 * loss, loss, layer, 3.0, 100.0).item() == pytest.approx(4.0)
    assert adaptive_weight(8 * loss, loss, layer, 0.0, 2.0).item() == 2.0


class Counted(torch.nn.Module):
    """A small network of pixels that counts how often it is differentiated."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Conv3d(3, 4, 3, padding=1).double().requires_grad_(False)
        self.backward_passes = 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        features = self.layer(video).tanh()
        features.register_hook(self._count)
        return features.square()

    def _count(self, gradient: torch.Tensor) -> None:
        self.backward_passes += 1


def generator_step(delta: float, weight_limit: float, plain: bool) -> tuple[dict[str, torch.Tensor], float, list[int]]:
    """Gradients of all parameters, the adversarial weight and how often LPIPS and discriminator were differentiated."""
    torch.manual_seed(0)
    model = WFVAE(WFVAEConfig(8, 4, encoder_flow_channels=8, decoder_flow_channels=8)).double()
    video = torch.rand(1, 3, 5, 16, 16, dtype=torch.float64) * 2 - 1
    lpips, network = Counted(1), Counted(2)
    output = model(video, generator=torch.Generator().manual_seed(3))
    config = LossConfig(kl=1e-3, delta=delta, adaptive_limit=weight_limit)

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (lpips(b.movedim(1, 0)) - lpips.layer(a.movedim(1, 0)).tanh().square()).square().mean(dim=(0, 2, 3))

    if plain:  # the loss as it is defined: both terms are differentiated for the weight, and again for the step
        nll = reconstruction_loss(video, output.video, config, distance)["nll"]
        adversarial = -network(output.video).mean()
        weight = adaptive_weight(nll, adversarial, model.last_layer, delta, weight_limit)
        kl = kl_divergence(output.posterior.mean, output.posterior.logvar).sum()
        total = nll + config.kl * kl + config.wavelet * wavelet_loss(output, "official") + 0.5 * weight * adversarial
        weight = 0.5 * weight
    else:
        options = {"perceptual": distance, "fake_logits": network(output.video), "last_layer": model.last_layer}
        found = generator_loss(video, output, config, **options)
        total, weight = found.total, found.terms["adversarial_weight"]
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return gradients, weight.item(), [lpips.backward_passes, network.backward_passes]


@pytest.mark.parametrize("limit", [1e30, 3.0], ids=["below the limit", "at the limit"])
def test_a_generator_step_differentiates_lpips_and_discriminator_once_to_the_same_gradients(limit: float) -> None:
    expected, weight, twice = generator_step(1e-4, limit, plain=True)
    found, same, once = generator_step(1e-4, limit, plain=False)
    assert (twice, once) == ([2, 2], [1, 1])
    assert (weight == 0.5 * limit) is (limit == 3.0)
    assert same == pytest.approx(weight, rel=1e-12)
    a, b = (torch.cat([gradient.flatten() for gradient in side.values()]) for side in (found, expected))
    assert (a - b).norm() <= 1e-14 * b.norm()


def test_a_scalar_that_was_differentiated_once_has_its_value_and_its_gradient_each_time() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    pixels = x * 3
    value = differentiate_once(pixels.square().sum(), pixels)
    assert value.item() == 45
    for factor in (1.0, 2.0):
        (gradient,) = torch.autograd.grad(factor * value, x, retain_graph=True)
        assert gradient.tolist() == [factor * 18, factor * 36]


def test_gradients_too_small_for_float16_survive_with_a_scale() -> None:
    pixels = torch.ones(2, requires_grad=True) * 1.0
    gradients = []
    for scale in (1.0, 2.0**16):
        value = (pixels.half() * 1e-3).float().sum() * 1e-7  # as a network in float16 does: its gradient is one, too
        gradients.append(torch.autograd.grad(differentiate_once(value, pixels, scale), pixels)[0])
    assert torch.equal(gradients[0], torch.zeros(2))
    torch.testing.assert_close(gradients[1], torch.full((2,), 1e-10), rtol=1e-2, atol=0)


def test_hinge_is_zero_exactly_when_both_margins_hold() -> None:
    assert discriminator_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -4.0])).item() == 0
    assert discriminator_loss(torch.tensor([0.0]), torch.tensor([0.0])).item() == 1.0


def test_a_refreshed_discriminator_has_new_weights_and_no_memory() -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator3D(layers=2, width=4)
    before = net.main[0].weight.clone()
    net(torch.rand(2, 3, 5, 16, 16))
    net.reset()
    assert not torch.equal(before, net.main[0].weight)
    norm = net.main[3]
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert int(norm.num_batches_tracked) == 0


def test_perceptual_weight_without_weights_says_what_to_write() -> None:
    video = torch.zeros(1, 3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"loss\.perceptual: 0"):
        reconstruction_loss(video, video, LossConfig(), None)


def test_perceptual_term_weighs_every_pixel_of_the_frame_in_the_official_reduction() -> None:
    video = torch.zeros(2, 3, 5, 8, 8)
    seen = []

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append(a.shape)
        return F.l1_loss(a, b, reduction="none").mean(dim=(1, 2, 3)) * 2

    for reduction, scale in (("official", 3 * 8 * 8), ("mean", 1)):
        parts = reconstruction_loss(video, video + 0.5, LossConfig(perceptual=0.1, reduction=reduction), distance)
        assert parts["perceptual"].item() == pytest.approx(1.0)
        assert parts["nll"].item() == pytest.approx(scale * (0.5 + 0.1))
    assert seen[0] == (10, 3, 8, 8)


@pytest.mark.parametrize("bad", [{"reconstruction": "huber"}, {"reduction": "sum"}, {"kl": -1.0}, {"kl": float("nan")}])
def test_impossible_loss_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"loss\."):
        LossConfig(**bad)


def test_an_adaptive_weight_of_gradients_too_small_for_float16_survives_with_a_scale() -> None:
    layer = torch.ones(2, requires_grad=True)
    main, other = ((layer.half() * factor).float().sum() * 1e-7 for factor in (2e-1, 1e-1))
    assert adaptive_weight(main, other, layer, 0.0, 100.0).isnan()  # both gradients became 0
    assert adaptive_weight(main, other, layer, 0.0, 100.0, scale=2.0**16).item() == pytest.approx(2.0, rel=1e-2)
