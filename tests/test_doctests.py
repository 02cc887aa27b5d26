"""Every metric shows its use with a number, and the number is right: the doctests of `vaebench/metrics`.

`pytest --doctest-modules vaebench/metrics` runs them too; here a metric without one fails.
"""

from __future__ import annotations

import doctest

import pytest

from vaebench import plugins


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_the_example_of_a_metric_gives_the_number_that_it_shows(name: str) -> None:
    found = doctest.testmod(plugins.find("metrics", name))
    assert found.attempted > 0
    assert found.failed == 0
