"""Metrics of frames are scored window by window and give the score of the whole clip; what a subclass must define."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench import scoring
from vaebench.metric import FrameMetric, Metric
from vaebench.metrics.dists import DISTS
from vaebench.metrics.flicker import Flicker
from vaebench.metrics.fvd import FVD
from vaebench.metrics.i3d_l2 import I3DL2
from vaebench.metrics.psnr import PSNR
from vaebench.metrics.psnr_eps8 import PSNREps8
from vaebench.metrics.psnr_pooled import PooledPSNR
from vaebench.metrics.psnr_tokenbench import TokenBenchPSNR
from vaebench.metrics.ssim import SSIM
from vaebench.metrics.ssim_pooled import PooledSSIM
from vaebench.metrics.ssim_uniform7 import UniformSSIM
from vaebench.video import WINDOW


class Largest(Metric):
    """A metric of whole clips: the largest error and where it is."""

    def measure(self, reference: Tensor, reconstruction: Tensor) -> Tensor:
        error = (reference - reconstruction).abs().flatten(1)
        return torch.stack([error.amax(1), error.argmax(1).float()], dim=1)

    def reduce(self, statistics: np.ndarray) -> float:
        return float(statistics[:, 0].mean())


def distance(a: Tensor, b: Tensor, **_: Any) -> Tensor:
    """Replaces the networks of LPIPS and DISTS."""
    return (a - b).square().mean(dim=(1, 2, 3))


METRICS: dict[str, Metric] = {
    "psnr": PSNR(), "psnr_eps8": PSNREps8(), "psnr_pooled": PooledPSNR(), "psnr_tokenbench": TokenBenchPSNR(),
    "ssim": SSIM(), "ssim_pooled": PooledSSIM(), "ssim_uniform7": UniformSSIM(), "flicker": Flicker(),
    "dists": DISTS(distance), "largest": Largest(),
}  # fmt: skip


def pair(frames: int, *, rounded: bool = True, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    video = torch.rand(2, batch, 3, frames, 20, 28, generator=generator)
    a, b = (video.mul(255).round().div(255) if rounded else video).unbind()
    return a, b


def windows(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(a.split(WINDOW, dim=2), b.split(WINDOW, dim=2), strict=True)


@pytest.mark.parametrize("rounded", [True, False], ids=["8-bit", "float"])
@pytest.mark.parametrize("frames", [2, WINDOW, WINDOW + 1, 3 * WINDOW + 5])
def test_the_windows_of_a_clip_have_the_score_of_the_whole_clip_to_the_last_bit(frames: int, rounded: bool) -> None:
    reference, reconstruction = pair(frames, rounded=rounded)
    found = scoring.measure(METRICS, windows(reference, reconstruction))
    assert list(found) == list(METRICS)
    for name, metric in METRICS.items():
        assert np.array_equal(found[name], metric.measure(reference, reconstruction)[0].numpy()), name


@pytest.mark.parametrize("name", [name for name in METRICS if name != "largest"])
def test_the_score_of_a_long_clip_is_that_of_all_frames_at_once(name: str) -> None:
    metric, (reference, reconstruction) = METRICS[name], pair(2 * WINDOW + 3, batch=2)
    assert isinstance(metric, FrameMetric)
    at_once = metric.frame_values(reference, reconstruction)
    assert at_once.shape == (2, 2 * WINDOW + 3 - metric.overlap)
    measured = metric.measure(reference, reconstruction)
    assert measured.numpy() == pytest.approx(metric.combine(at_once).numpy(), rel=1e-6)
    curve = metric.by_frame(reference, reconstruction)
    assert curve is None or torch.allclose(curve.mean(dim=1), measured, rtol=1e-12)
    assert (curve is None) == (name in ("psnr_pooled", "psnr_tokenbench"))


def test_all_windows_are_read_without_metrics() -> None:
    read: list[int] = []

    def counted() -> Iterator[tuple[Tensor, Tensor]]:
        for number, window in enumerate(windows(*pair(50))):
            read.append(number)
            yield window

    assert scoring.measure({}, counted()) == {}
    assert read == [0, 1, 2, 3]


def test_longer_reconstructions_than_their_reference_are_refused() -> None:
    reference, reconstruction = pair(2 * WINDOW)
    with pytest.raises(ValueError, match="one shape"):
        PSNR().measure(reference[:, :, :WINDOW], reconstruction)
    with pytest.raises(ValueError, match="one shape"):
        PSNR().measure(reference, reconstruction[:, :, :WINDOW])


def test_a_metric_of_frames_that_defines_measure_is_refused_because_windows_never_call_it() -> None:
    with pytest.raises(
        TypeError, match=r"Worst defines measure, .* define frame_values and combine, or derive from Metric"
    ):

        class Worst(PSNR):
            def measure(self, reference: Tensor, reconstruction: Tensor) -> Tensor:  # type: ignore[misc]
                return super().measure(reference, reconstruction)


def test_a_mixin_that_defines_measure_is_refused_too() -> None:
    class Mixin:
        def measure(self, reference: Tensor, reconstruction: Tensor) -> Tensor:
            return torch.full((len(reference),), 42.0)

    with pytest.raises(TypeError, match="Mixed defines measure"):

        class Mixed(Mixin, PSNR):  # type: ignore[misc]
            pass


def test_windows_must_be_longer_than_the_overlap() -> None:
    with pytest.raises(TypeError, match="overlap=16 is invalid: windows have 16 frames"):

        class Long(PSNR):
            overlap = WINDOW


@pytest.mark.parametrize("base", [FVD, I3DL2])
def test_a_metric_derived_from_one_that_remembers_references_is_measured_by_its_own_measure(base: Any) -> None:
    class Mine(base):
        def measure(self, reference: Tensor, reconstruction: Tensor) -> Tensor:
            return torch.full((len(reference), 1), 42.0)

    a, b = pair(20)
    assert scoring.measure({"mine": Mine(None)}, windows(a, b), b"known")["mine"] == 42


def test_a_metric_of_frames_may_combine_them_in_its_own_way() -> None:
    class Worst(PSNR):
        def combine(self, values: Tensor) -> Tensor:
            return values.amin(dim=1)

    reference, reconstruction = pair(40)
    worst = PSNR().by_frame(reference, reconstruction)
    assert worst is not None
    assert torch.equal(Worst().measure(reference, reconstruction), worst.amin(dim=1))
    assert Worst().by_frame(reference, reconstruction) is None
