"""Settings that a run does not use are refused in one place, with the reason."""

from __future__ import annotations

from typing import ClassVar

import pytest

from vaebench.config import RunConfig
from vaebench.options import BlockwiseOptions, refuse_unused
from vaebench.suite import Suite


def test_every_unused_setting_is_named_with_its_value_and_each_reason_once() -> None:
    config = RunConfig(seed=3, clips=2, size=64)
    refuse_unused(config, {"num_frames": "it has the default"})
    message = r"^seed=3, clips=2, size=64 would change nothing: it draws nothing; it makes its own videos$"
    reasons = {"seed": "it draws nothing", "clips": "it makes its own videos", "size": "it makes its own videos"}
    with pytest.raises(ValueError, match=message):
        refuse_unused(config, reasons)


def test_a_list_that_differs_from_the_default_list_is_refused() -> None:
    refuse_unused(BlockwiseOptions(independent=[16]), {"independent": "that is the default"})
    with pytest.raises(ValueError, match=r"^independent=\[8\] would change nothing: no chunks$"):
        refuse_unused(BlockwiseOptions(independent=[8]), {"independent": "no chunks"})


def test_a_suite_of_another_package_declares_what_it_does_not_use() -> None:
    class Mine(Suite[None]):
        name = "mine"
        unused: ClassVar[dict[str, str]] = {"posterior": "mine does not sample"}
        cases = measure = summarize = None  # type: ignore[assignment]

    assert Mine(RunConfig()).absent == {}
    with pytest.raises(ValueError, match="posterior=sample would change nothing: mine does not sample"):
        Mine(RunConfig(posterior="sample"))
