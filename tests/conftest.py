"""Options and fixtures of the whole suite: golden folders, quiet threads, no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are tiny, and workers side by side share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network is a broken test

import torch

from tests import goldens_io


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens", action="append", type=Path, metavar="DIR",
        help="take golden vectors from DIR instead of tests/goldens and ../shared/goldens; repeatable",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getoption("--goldens")
    if chosen:
        missing = [str(path) for path in chosen if not path.is_dir()]
        if missing:
            raise pytest.UsageError(f"--goldens: no such folder: {', '.join(missing)}")
        goldens_io.roots[:] = chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none here"))
