"""Schedules, losses and sampling trajectories against the official diffusion (goldens), and what theory says of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.goldens_io import Golden, goldens
from tests.test_latte import TINY, close, golden_model, kind, random_latte, swap
from vaebench.generation.latte.diffusion import (
    ddpm_step,
    kept_steps,
    linear,
    noised,
    posterior_mean,
    predicted_x0,
    respaced,
    split,
    training_loss,
)
from vaebench.generation.latte.sample import Noise, chain, conditional, guided, sample


@pytest.mark.parametrize("golden", kind("schedule"), ids=str)
def test_every_table_of_every_respacing_is_the_official_one(golden: Golden) -> None:
    tensors = golden.tensors()
    seen = set()
    for spacing in golden.json("spec")["respacing"]:
        schedule = respaced(linear(), spacing) if spacing else linear()
        prefix = f"{spacing or '1000'}."
        names = [key.removeprefix(prefix) for key in tensors if key.startswith(prefix)]
        seen |= {prefix + name for name in names}
        for name in names:
            ours = schedule.timesteps if name == "timestep_map" else getattr(schedule, name)
            torch.testing.assert_close(ours, tensors[prefix + name], rtol=1e-10, atol=1e-15)
    assert seen == set(tensors)


LOSSES = goldens(lambda m: m.get("kind") == "loss" and "cls" not in m)  # WF-VAE's name their class


@pytest.mark.parametrize("golden", LOSSES, ids=str)
def test_loss_and_its_gradient_are_the_official_ones(golden: Golden) -> None:
    tensors = golden.tensors()
    x0, noise, step = swap(tensors["x0"]), swap(tensors["noise"]), tensors["t"]
    close(swap(noised(linear(), x0, noise, step)), tensors["x_t"])
    output = swap(tensors["model_output"]).requires_grad_()
    loss = training_loss(linear(), output, x0, noise, step)
    torch.testing.assert_close(loss.mse, tensors["mse"], rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(loss.total, tensors["loss"], rtol=1e-4, atol=1e-6)
    if "vb" in tensors:
        torch.testing.assert_close(loss.vb, tensors["vb"], rtol=1e-4, atol=1e-6)
    else:
        assert (loss.vb == 0).all()
    loss.total.mean().backward()
    close(swap(output.grad), tensors["grad_model_output"], 1e-4)


def toy(learned: bool):
    """The goldens' denoiser: a known function of x_t and the original timestep."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        time = t.to(x.dtype).reshape(-1, 1, 1, 1, 1) / 1000
        noise = 0.9 * x * (time + 0.05).sqrt() + 0.1 * torch.sin(3 * x + 2 * time)
        return torch.cat([noise, torch.tanh(0.5 * x - time)], dim=1) if learned else noise

    return denoise


def ours(name: str) -> list[Golden]:
    """The goldens of samplers that the suite uses: DDIM without noise, and no clamping of the predicted x_0."""
    specs = [(golden, golden.json("spec")) for golden in kind(name)]
    return [golden for golden, spec in specs if not spec.get("eta") and not spec.get("clip")]


@pytest.mark.parametrize("golden", ours("sampler"), ids=str)
def test_the_trajectory_is_the_official_one(golden: Golden) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    start = swap(tensors["z"])
    noises = [swap(noise) for noise in tensors.get("noises", [])]
    schedule = respaced(linear(), spec["respacing"])
    steps = list(
        chain(
            toy(spec.get("learn_sigma", "fixed" not in golden.metadata["spec"])), start, schedule, noises,
            method=spec["method"],
        )
    )  # fmt: skip
    close(swap(steps[-1].sample), tensors["final"], 1e-4)
    for row, index in enumerate(tensors["kept_steps"].tolist()):
        close(swap(steps[index].sample), tensors["samples"][row], 1e-4)
        close(swap(steps[index].x0), tensors["pred_xstart"][row], 1e-4)


@pytest.mark.parametrize("golden", ours("e2e"), ids=str)
def test_a_guided_latte_samples_what_the_official_one_does(golden: Golden) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    model = golden_model(golden)
    labels, scale = tensors.get("y"), spec.get("cfg_scale", 1.0)
    four = "official-first-4"
    denoise = guided(model, labels, scale, channels=four) if scale != 1 else conditional(model, labels)
    noises = [swap(noise[: len(tensors["z"])]) for noise in tensors.get("noises", [])]
    steps = chain(
        denoise, swap(tensors["z"]), respaced(linear(), spec["respacing"]), noises,
        method=spec["method"],
    )  # fmt: skip
    close(swap([*steps][-1].sample), tensors["final"], 1e-4)


def test_true_noise_gives_back_the_data_and_costs_nothing_but_its_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 3, 2, 2, 2, generator=generator, dtype=torch.float64)
    step = torch.tensor([1, 40, 500, 999])
    schedule = linear()
    torch.testing.assert_close(predicted_x0(schedule, noised(schedule, x0, noise, step), noise, step), x0)
    output = torch.cat([noise, -torch.ones_like(noise)], dim=1)  # code -1: the posterior's own variance
    loss = training_loss(schedule, output, x0, noise, step)
    torch.testing.assert_close(loss.total, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    worse = training_loss(schedule, output + 0.1, x0, noise, step)
    assert (worse.vb > 0).all()


def test_the_variational_term_teaches_the_variance_and_not_the_noise() -> None:
    output = torch.zeros(2, 6, 2, 2, 2, requires_grad=True)
    x0, noise = torch.randn(2, 2, 3, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    training_loss(linear(), output, x0, noise, torch.tensor([3, 300])).vb.sum().backward()
    by_noise, by_code = split(output.grad, 3)
    assert (by_noise == 0).all()
    assert (by_code != 0).all()


def test_ddpm_of_the_exact_denoiser_samples_the_gaussian_it_was_made_for() -> None:
    mean, deviation = 1.5, 0.5
    schedule = respaced(linear(), "100")

    def exact(x: Tensor, t: Tensor) -> Tensor:
        kept = linear().alphas_cumprod[t[0]].item()
        return math.sqrt(1 - kept) * (x - math.sqrt(kept) * mean) / (kept * deviation**2 + 1 - kept)

    noise = Noise(range(8), (1, 1, 16, 16), torch.device("cpu"))
    *_, last = chain(exact, noise.draw(), schedule, noise)
    # beta as the variance of each of 100 steps is a little too wide
    assert last.sample.mean().item() == pytest.approx(mean, abs=0.05)
    assert last.sample.std().item() == pytest.approx(deviation, abs=0.05)
    *_, implicit = chain(exact, noise.draw(), respaced(linear(), "ddim50"), (), method="ddim")
    assert implicit.sample.mean().item() == pytest.approx(mean, abs=0.05)
    assert implicit.sample.std().item() == pytest.approx(deviation, abs=0.05)


def test_posterior_of_two_gaussians_is_bayes() -> None:
    schedule, step = linear(), 400
    before, beta = schedule.alphas_cumprod_prev[step].item(), schedule.betas[step].item()
    precision = 1 / (1 - before) + (1 - beta) / beta
    assert schedule.posterior_variance[step].item() == pytest.approx(1 / precision)
    x0, x = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.2], dtype=torch.float64)
    bayes = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(1 - beta) * x / beta) / precision
    torch.testing.assert_close(posterior_mean(schedule, x0, x, step), bayes)


def test_a_sample_depends_on_its_seed_and_not_on_its_batch() -> None:
    model = random_latte(TINY).requires_grad_(False)
    schedule, labels = respaced(linear(), "4"), torch.tensor([0, 1, 2])
    whole = sample(model, schedule, [7, 8, 9], labels=labels, scale=2.0)
    assert whole.shape == (3, TINY.channels, TINY.frames, TINY.height, TINY.width)
    parts = [sample(model, schedule, [seed], labels=labels[i : i + 1], scale=2.0) for i, seed in enumerate((7, 8, 9))]
    # matrix products of another batch size round otherwise, and the random network amplifies it; other noise differs by 1 and more
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-2)
    assert (whole[0] - whole[1]).abs().max() > 1


def test_scale_one_is_the_conditional_model_and_scale_zero_the_unconditional() -> None:
    model = random_latte(TINY).requires_grad_(False)
    x, t, labels = torch.ones(2, 3, 3, 4, 6), torch.tensor([5, 500]), torch.tensor([1, 4])
    noise = guided(model, labels, 1.0)(x, t)
    torch.testing.assert_close(noise, model(x, t, labels))
    null = torch.full_like(labels, TINY.classes)
    torch.testing.assert_close(guided(model, labels, 0.0)(x, t)[:, :3], model(x, t, null)[:, :3])


@pytest.mark.parametrize(
    ("spacing", "steps"),
    [("4", [0, 3, 6, 9]), ("1", [0]), ("ddim5", [0, 2, 4, 6, 8]), ("2,3", [0, 4, 5, 7, 9])],
)
def test_spacings_keep_the_steps_they_name(spacing: str, steps: list[int]) -> None:
    assert kept_steps(10, spacing) == steps


@pytest.mark.parametrize("spacing", ["11", "0", "fast", "ddim7", "3,x", ""])
def test_an_impossible_spacing_is_refused(spacing: str) -> None:
    with pytest.raises(ValueError, match=r"spacing|has no"):
        kept_steps(10, spacing)


def test_an_output_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="3 channels returns 3 or 6, got 4"):
        split(torch.zeros(1, 4, 1, 1, 1), 3)
    x = torch.zeros(1, 3, 1, 1, 1)
    with pytest.raises(ValueError, match="got 4"):
        ddpm_step(linear(), torch.zeros(1, 4, 1, 1, 1), x, 3, x)
