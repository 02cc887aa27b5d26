"""Metrics of the benchmark as `torchmetrics.Metric`, for logging during training: `vaebench.metrics.torchmetric("fvd")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
import torchmetrics
from torchmetrics.utilities import dim_zero_cat

from vaebench import plugins

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.metric import Metric
    from vaebench.video import Video

GRID = 255  # steps of 8-bit values in 0..1


class TorchMetric(torchmetrics.Metric):
    """Accumulates the statistics of clips; `compute` reduces those of all processes as the benchmark does.

    The state is named after the metric, so that a `MetricCollection` does not group two metrics whose first values are equal.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        super().__init__(dist_sync_fn=gather)
        self.name, self.network_device = name, torch.device(device)
        self.metric: Metric = plugins.find("metrics", name).build(self.network_device)
        self.add_state(self._state, default=[], dist_reduce_fx="cat")

    @property
    def _state(self) -> str:
        return f"{self.name}_statistics"

    @property
    def higher_is_better(self) -> bool | None:
        return {"higher": True, "lower": False, "neither": None}[self.metric.better]

    def update(self, preds: Video, target: Video) -> None:
        """Measure the clips of a batch.

        Args:
            preds: reconstructions, floating point (B, 3, T, H, W) in 0..1; they are rounded to 8 bits
            target: references, the same shape and range

        Raises:
            ValueError: values are outside 0..1 or not floating point, or the metric does not support the shape
        """
        reference, reconstruction = (self._scored(video, of) for video, of in ((target, "target"), (preds, "preds")))
        statistics = self.metric.measure(reference, reconstruction)
        getattr(self, self._state).append(statistics.to(self.device, torch.float64, copy=True))

    def _scored(self, video: Video, argument: str) -> Video:
        if not video.is_floating_point():
            raise ValueError(
                f"{argument} should be floating point in 0..1, got {video.dtype}: divide 8-bit values by 255"
            )
        if not (video.numel() and video.min() >= 0 and video.max() <= 1):  # NaN compares as false
            span = f"{float(video.min()):g} to {float(video.max()):g}" if video.numel() else "no values"
            raise ValueError(
                f"{argument} should have values in 0..1, got {span}: use ((x + 1) / 2).clamp(0, 1) for -1..1"
            )
        return video.to(self.network_device, torch.float32).mul(GRID).round_().div_(GRID)

    def compute(self) -> Tensor:
        """The score of all clips, float64 ().

        Raises:
            ValueError: there are too few clips for the metric
        """
        statistics = dim_zero_cat(getattr(self, self._state))
        return torch.tensor(self.metric.reduce(statistics.cpu().numpy()), dtype=torch.float64, device=self.device)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the network, which may be TorchScript and cannot be pickled; `__setstate__` builds it by name."""
        return {key: value for key, value in super().__getstate__().items() if key != "metric"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.metric = plugins.find("metrics", self.name).build(self.network_device)


def gather(statistics: Tensor, group: Any = None) -> list[Tensor]:
    """Gather the statistics (n, ...) of all processes that have clips; n differs between processes.

    torchmetrics gathers only tensors with equal rank and dtype, and a process without clips has no such tensor.
    """
    gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(gathered, statistics.cpu(), group=group)
    return [part.to(statistics.device) for part in gathered if part.numel()]
