"""The metrics: one module each, with `build(device) -> vaebench.metric.Metric`; another definition is another module."""

from vaebench.metric import torchmetric

__all__ = ["torchmetric"]
