"""The metrics, one module each with `build(device) -> vaebench.metric.Metric`.  Each definition has its own module."""

from vaebench.metric import torchmetric

__all__ = ["torchmetric"]
