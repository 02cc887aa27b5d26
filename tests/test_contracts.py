"""Every built-in plug-in satisfies its contract: mypy checks the assignments, the tests that the lists are complete."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vaebench import plugins
from vaebench.features.i3d_torchscript import Extractor
from vaebench.features.lpips import LPIPS
from vaebench.metric import Metric
from vaebench.metrics import (
    dists,
    flicker,
    flicker_compensated,
    fvd,
    fvd_videomae,
    i3d_l2,
    lpips,
    lpips_vgg,
    psnr,
    psnr_eps8,
    psnr_pooled,
    psnr_tokenbench,
    ssim,
    ssim_pooled,
    ssim_uniform7,
    text,
    vmaf,
)
from vaebench.metrics.dists import DISTS
from vaebench.metrics.flicker import Flicker
from vaebench.metrics.flicker_compensated import CompensatedFlicker
from vaebench.metrics.fvd import FVD
from vaebench.metrics.fvd_videomae import VideoMAEFVD
from vaebench.metrics.i3d_l2 import I3DL2
from vaebench.metrics.psnr import PSNR
from vaebench.metrics.psnr_eps8 import PSNREps8
from vaebench.metrics.psnr_pooled import PooledPSNR
from vaebench.metrics.psnr_tokenbench import TokenBenchPSNR
from vaebench.metrics.ssim import SSIM
from vaebench.metrics.ssim_pooled import PooledSSIM
from vaebench.metrics.ssim_uniform7 import UniformSSIM
from vaebench.metrics.text import Reader, TextFidelity
from vaebench.metrics.vmaf import VMAF
from vaebench.scoring import build_metrics

BUILDS: dict[str, Callable[[torch.device | str], Metric]] = {
    "dists": dists.build,
    "flicker": flicker.build,
    "flicker_compensated": flicker_compensated.build,
    "fvd": fvd.build,
    "fvd_videomae": fvd_videomae.build,
    "i3d_l2": i3d_l2.build,
    "lpips": lpips.build,
    "lpips_vgg": lpips_vgg.build,
    "psnr": psnr.build,
    "psnr_eps8": psnr_eps8.build,
    "psnr_pooled": psnr_pooled.build,
    "psnr_tokenbench": psnr_tokenbench.build,
    "ssim": ssim.build,
    "ssim_pooled": ssim_pooled.build,
    "ssim_uniform7": ssim_uniform7.build,
    "text": text.build,
    "vmaf": vmaf.build,
}


def metrics(i3d: Extractor, network: torch.nn.Module) -> list[Metric]:
    """One of each class."""
    m_psnr: Metric = PSNR()
    m_pooled: Metric = PooledPSNR()
    m_ssim: Metric = SSIM()
    m_flicker: Metric = Flicker()
    m_lpips: Metric = LPIPS(network, 16)
    m_fvd: Metric = FVD(i3d)
    m_i3d_l2: Metric = I3DL2(i3d)
    m_vmaf: Metric = VMAF(network, "cpu")
    m_dists: Metric = DISTS(network)
    m_compensated: Metric = CompensatedFlicker(lambda a, b: np.stack([a, b]))
    m_videomae: Metric = VideoMAEFVD(network)
    m_text: Metric = TextFidelity(Reader(lambda picture: [], lambda picture: ("", 0.0)))
    m_eps8: Metric = PSNREps8()
    m_tokenbench: Metric = TokenBenchPSNR()
    m_ssim_pooled: Metric = PooledSSIM()
    m_uniform7: Metric = UniformSSIM()
    more = [m_vmaf, m_dists, m_compensated, m_videomae, m_text, m_eps8, m_tokenbench, m_ssim_pooled, m_uniform7]
    return [*more, m_psnr, m_pooled, m_ssim, m_flicker, m_lpips, m_fvd, m_i3d_l2]


NONE: Any = None  # a network, which nothing here runs
BUILT = metrics(Extractor(NONE), NONE)


class Difference(Metric):
    """What the contract demands and no more."""

    def measure(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        return (reference - reconstruction).abs().mean(dim=(1, 2, 3, 4))

    def reduce(self, statistics: np.ndarray) -> float:
        return float(statistics.mean())


def test_every_built_in_metric_is_in_the_typed_list() -> None:
    assert sorted(BUILDS) == plugins.names("metrics")


@pytest.mark.parametrize("metric", BUILT, ids=lambda metric: type(metric).__name__)
def test_a_built_in_metric_has_every_member_with_its_type(metric: Metric) -> None:
    assert isinstance(metric.unit, str)
    assert metric.better in ("higher", "lower")
    assert isinstance(metric.per_clip, bool)
    assert metric.min_frames >= 1
    assert all(isinstance(metric.caution(n), str) for n in (1, 10_000))


def test_a_metric_of_two_methods_has_a_default_for_everything_else() -> None:
    metric: Metric = Difference()
    video = torch.zeros(1, 3, 2, 4, 4)
    assert (metric.unit, metric.better, metric.per_clip, metric.min_frames) == ("", "neither", True, 1)
    assert metric.by_frame(video, video) is None
    assert metric.caution(1) == ""


def test_a_metric_without_reduce_cannot_be_made() -> None:
    class Half(Metric):
        def measure(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
            return reference

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_a_plug_in_that_builds_no_metric_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SimpleNamespace(__name__="their_metric", build=lambda device: SimpleNamespace(unit="", better="lower"))
    monkeypatch.setattr(plugins, "find", lambda kind, name: module)
    with pytest.raises(
        ValueError, match=r"their_metric.build returned a SimpleNamespace, expected a vaebench.metric.Metric"
    ):
        build_metrics(["their"], torch.device("cpu"), 17)
