"""Many tensors in one copy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vaebench.host_copy import pack, to_host, unpack

TENSORS = [
    torch.tensor(float("nan")),
    torch.tensor([True, False, True]),
    torch.arange(6, dtype=torch.float64).view(2, 3).T,  # not contiguous
    torch.tensor([-0.0, 1e-45], dtype=torch.float32),
    torch.empty(0, 4),
    torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    torch.tensor(2**40),
]


def test_unpacking_inverts_packing() -> None:
    content = pack(TENSORS)
    assert content.dtype == torch.uint8
    for tensor, found in zip(TENSORS, unpack(content, TENSORS), strict=True):
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(pack([found]), pack([tensor]))  # NaN and the sign of zero included


def test_tensors_on_the_cpu_are_not_copied() -> None:
    tensor = torch.zeros(3)
    assert np.shares_memory(to_host({"a": tensor})["a"], tensor.numpy())


@pytest.mark.gpu
def test_one_copy_brings_all_statistics_from_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {str(k): tensor for k, tensor in enumerate(TENSORS) if tensor.dtype != torch.bfloat16}
    there = {name: tensor.cuda() for name, tensor in tensors.items()} | {"here": torch.ones(2)}
    copies: list[int] = []
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: (copies.append(self.numel()), real(self))[1])
    found = to_host(there)
    assert len(copies) == 1
    for name, tensor in (tensors | {"here": torch.ones(2)}).items():
        assert np.array_equal(found[name], tensor.numpy(), equal_nan=tensor.is_floating_point())
