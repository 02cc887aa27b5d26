"""Libraries that only some metrics need: the extra `metrics` of the package."""

from __future__ import annotations

from vaebench.weights import Unavailable


def missing(error: ModuleNotFoundError) -> Unavailable:
    """The reason why a metric is unavailable whose library could not be imported."""
    return Unavailable(f"the package {error.name} is not installed: run `pip install '.[metrics]'`")
