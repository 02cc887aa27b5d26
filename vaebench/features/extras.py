"""Libraries that only some metrics need: the extra `metrics` of the package."""

from __future__ import annotations

from vaebench.weights import Unavailable


def missing(error: ModuleNotFoundError) -> Unavailable:
    """The error for a metric whose library is not installed."""
    return Unavailable(f"the package {error.name} is not installed: run `pip install '.[metrics]'`")
