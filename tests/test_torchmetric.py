"""Metrics as `torchmetrics.Metric`: the benchmark's own score, in one process and over several."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import Tensor

from tests.processes import run_two
from tests.test_metrics import grid, pair, video
from vaebench import metrics, plugins
from vaebench.features.i3d_torchscript import Extractor
from vaebench.fingerprint import code
from vaebench.metrics import fvd, i3d_l2, torchmetric

PIXELS = ["psnr", "psnr_pooled", "ssim", "flicker"]


class SmallNetwork:
    """Called as I3D is; 400 features by a fixed product."""

    def __init__(self) -> None:
        self.mix = torch.randn(3 * 2 * 4 * 4, 400, generator=torch.Generator().manual_seed(0))

    def __call__(self, x: Tensor, **_: bool) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool3d(x, [2, 4, 4]).flatten(1) @ self.mix


def with_small_i3d(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fvd, i3d_l2):
        network: Any = SmallNetwork()
        monkeypatch.setattr(module, "extractor", lambda device, network=network: Extractor(network))


@pytest.fixture(autouse=True)
def _small_i3d(monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_i3d(monkeypatch)


def clips(count: int = 5) -> tuple[Tensor, Tensor]:
    """References and reconstructions (count, 3, 9, 16, 16) in 0..1."""
    return pair(count, 3, 9, 16, 16)


def ours(name: str, reference: Tensor, reconstruction: Tensor) -> float:
    metric = plugins.find("metrics", name).build("cpu")
    return metric.reduce(metric.measure(reference, reconstruction).numpy())


@pytest.mark.parametrize("name", [*PIXELS, "fvd", "i3d_l2"])
def test_batches_give_the_score_of_all_clips_and_reset_forgets_them(name: str) -> None:
    reference, reconstruction = clips()
    metric = torchmetric(name)
    assert isinstance(metric, torchmetrics.Metric)
    metric.update(video(9, 2, 3, 9, 16, 16), video(8, 2, 3, 9, 16, 16))
    metric.reset()
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(reconstruction[part], target=reference[part])
    assert metric.compute().dtype == torch.float64
    assert float(metric.compute()) == pytest.approx(ours(name, reference, reconstruction), rel=1e-12)
    better = plugins.find("metrics", name).build("cpu").better
    assert metric.higher_is_better is (better == "higher")


def test_both_doors_are_one_function() -> None:
    from vaebench import metric

    assert metrics.torchmetric is metric.torchmetric
    assert "torchmetric" not in plugins.names("metrics")
    with pytest.raises(ValueError, match=r"no 'pnsr' in metrics; did you mean 'psnr'"):
        torchmetric("pnsr")


@pytest.mark.parametrize("name", ["psnr", "fvd"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric))])
def test_a_copy_and_a_pickle_go_on_from_the_clips_so_far(name: str, again: Any) -> None:
    reference, reconstruction = clips()
    metric = torchmetric(name)
    metric.update(reconstruction[:3], reference[:3])
    other = again(metric)
    other.update(reconstruction[3:], reference[3:])
    assert float(other.compute()) == pytest.approx(ours(name, reference, reconstruction), rel=1e-12)
    assert float(metric.compute()) == pytest.approx(ours(name, reference[:3], reconstruction[:3]), rel=1e-12)


def test_statistics_stay_in_float64_whatever_the_model_is_cast_to() -> None:
    reference, reconstruction = clips(2)
    metric = torchmetric("psnr")
    metric.half().float()
    metric.update(reconstruction.double(), reference.double())
    assert float(metric.compute()) == pytest.approx(ours("psnr", reference, reconstruction), rel=1e-12)
    coarse = torchmetric("psnr")
    coarse.update(reconstruction.bfloat16(), reference.bfloat16())
    expected = ours("psnr", grid(reference.bfloat16().float()), grid(reconstruction.bfloat16().float()))
    assert float(coarse.compute()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: 2 * x - 1, r"preds should have values in 0..1, got -.*clamp"),
        (lambda x: x + torch.nan, "got nan to nan"),
        (lambda x: x[:0], "got no values"),
        (lambda x: (255 * x).byte(), "got torch.uint8: divide 8-bit values by 255"),
    ],
)
def test_another_range_is_refused(change: Any, message: str) -> None:
    reference, reconstruction = clips(1)
    with pytest.raises(ValueError, match=message):
        torchmetric("psnr").update(change(reconstruction), reference)


def test_metrics_whose_first_values_agree_are_not_merged_in_a_collection() -> None:
    reference, reconstruction = clips(3)
    collection = torchmetrics.MetricCollection({name: torchmetric(name) for name in ("psnr", "psnr_pooled")})
    collection.update(reference[:1], reference[:1])  # 58.92 dB by both
    collection.update(reconstruction, reference)
    both = torch.cat([reference[:1], reference]), torch.cat([reference[:1], reconstruction])
    for name, value in collection.compute().items():
        assert float(value) == pytest.approx(ours(name, *both), rel=1e-12)


def test_no_clip_and_too_few_clips_have_no_score() -> None:
    metric = torchmetric("fvd")
    with pytest.warns(UserWarning, match="before the ``update`` method"), pytest.raises(ValueError, match="No samples"):
        metric.compute()
    reference, reconstruction = clips(1)
    metric.update(reconstruction, reference)
    with pytest.raises(ValueError, match="at least 2 clips, got 1"):
        metric.compute()


SHARES = {"uneven": ([0, 2, 4], [1, 3]), "one has none": ([0, 1, 2, 3, 4], [])}  # clips of each of two processes
SHARED = ("psnr", "ssim", "fvd", "i3d_l2")


def _process(rank: int, folder: str) -> None:
    """One of two processes, with each of its shares in turn; writes the scores that it sees."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    reference, reconstruction = clips()
    scores = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_small_i3d(monkeypatch)
        for case, shares in SHARES.items():
            for name in SHARED:
                metric = torchmetric(name)
                for i in shares[rank]:
                    metric.update(reconstruction[i : i + 1], reference[i : i + 1])
                scores[f"{case} {name}"] = float(metric.compute())
                own = [len(part) for part in getattr(metric, f"{name}_statistics")]
                assert sum(own) == len(shares[rank])  # as before the synchronisation
    np.savez(f"{folder}/{rank}.npz", **scores)
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_score_of_all_clips(tmp_path: Path) -> None:
    run_two(_process, str(tmp_path))
    reference, reconstruction = clips()
    for rank in range(2):
        scores = np.load(tmp_path / f"{rank}.npz")
        assert len(scores.files) == len(SHARES) * len(SHARED)
        for key in scores.files:
            name = key.rpartition(" ")[2]
            assert scores[key] == pytest.approx(ours(name, reference, reconstruction), rel=1e-10), (rank, key)


def test_cached_statistics_do_not_depend_on_the_wrapper() -> None:
    parts = code([plugins.find("metrics", "psnr")])
    assert "torch" in parts
    assert "torchmetrics" not in parts
