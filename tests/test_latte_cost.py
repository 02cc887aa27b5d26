"""The work of a Latte step: how many products of which size, and that arrangements which save time change no result."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_latte import TINY, random_input, random_latte
from vaebench.allocator import freed_memory_kept, is_glibc
from vaebench.generation.latte.diffusion import linear, noised, training_loss
from vaebench.generation.latte.model import modulated
from vaebench.generation.latte.sample import conditional, guided

aten = torch.ops.aten
ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math")
CONFIG = replace(TINY, depth=4, frames=3)
TOKENS = CONFIG.frames * CONFIG.grid[0] * CONFIG.grid[1]  # of one sample


class Operations(TorchDispatchMode):
    """Counts calls of operators by name, and of matrix products by their number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.rows: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        if func.overloadpacket in (aten.mm, aten.addmm):
            self.rows[args[-2].shape[0]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def attentions(self) -> int:
        return sum(self.calls[name] for name in ATTENTION)


def test_a_guided_step_is_one_pass_of_both_halves_with_one_conditioning_per_sample() -> None:
    model = random_latte(CONFIG).requires_grad_(False)
    latent, t, labels = random_input(CONFIG, batch=3)
    with Operations() as seen:
        guided(model, labels, 7.0)(latent, t)
    # qkv, proj, fc1 and fc2 of every block and the last layer; a modulation of every block and the last layer, and the
    # timestep's two layers
    assert seen.rows == {6 * TOKENS: 4 * CONFIG.depth + 1, 6: CONFIG.depth + 1 + 2}
    assert seen.attentions == CONFIG.depth
    assert seen.calls["embedding"] == 1
    assert seen.calls["convolution"] == 1
    assert seen.calls["bmm"] == 0


def test_a_training_step_has_two_products_backward_for_each_forward() -> None:
    model = random_latte(CONFIG)
    latent, t, labels = random_input(CONFIG, batch=3)
    noise = torch.ones_like(latent)
    with Operations() as forward:
        output = model(noised(linear(), latent, noise, t), t, labels)
    loss = training_loss(linear(), output, latent, noise, t).total.mean()
    with Operations() as backward:
        loss.backward()
    products = sum(forward.rows.values())
    assert sum(backward.rows.values()) == 2 * products - 1  # the sinusoids of the timestep need no gradient
    assert backward.calls["bmm"] == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_guidance_in_one_batch_equals_two_calls(batch: int) -> None:
    model = random_latte(CONFIG).double().requires_grad_(False)
    latent, t, labels = random_input(CONFIG, batch=batch)
    latent, null = latent.double(), torch.full_like(labels, CONFIG.classes)
    with_label, without = (conditional(model, given)(latent, t) for given in (labels, null))
    channels = CONFIG.channels
    noise = without[:, :channels] + 7.0 * (with_label[:, :channels] - without[:, :channels])
    expected = torch.cat([noise, with_label[:, channels:]], dim=1)
    torch.testing.assert_close(guided(model, labels, 7.0)(latent, t), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_switched_off_change_no_output_and_no_input(batch: int) -> None:
    model = random_latte(CONFIG)
    latent, t, labels = random_input(CONFIG, batch=batch)
    before = latent.clone()
    with torch.no_grad():
        alone = model(latent, t, labels)
    assert latent.equal(before)
    torch.testing.assert_close(alone, model(latent, t, labels).detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_modulation_is_a_norm_a_scale_and_a_shift_of_each_sample(batch: int) -> None:
    x, shift, scale = (
        torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i, shape in enumerate([(batch, 3, 4, 8), (batch, 1, 1, 8), (batch, 1, 1, 8)])
    )
    expected = torch.nn.LayerNorm(8, eps=1e-6, elementwise_affine=False).double()(x) * (1 + scale) + shift
    torch.testing.assert_close(modulated(x, shift, scale), expected, rtol=1e-12, atol=1e-12)
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(modulated(turned, shift, scale), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_kept_memory_is_allocated_again_without_page_faults() -> None:
    def faults() -> int:
        before = getrusage(RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(1 << 21) for _ in range(24)]  # 8 MiB each, 192 MiB in all
        del tensors
        return getrusage(RUSAGE_SELF).ru_minflt - before

    with freed_memory_kept():
        faults()
        again = min(faults() for _ in range(5))  # the system may take pages away in between
    assert again < 1000  # of 49,152 pages
