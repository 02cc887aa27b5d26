"""Options and fixtures of the whole suite: golden folders, quiet threads, no network, empty folders, miniature data sets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are tiny, and workers side by side share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network is a broken test

import torch

from tests import goldens_io
from tests.videos import pictures, write, write_images

pytest_plugins = ["tests.weight_server"]  # fixtures for tests of weight files


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens", action="append", type=Path, metavar="DIR",
        help="also take golden vectors from DIR (default: ../shared/goldens, if it exists); repeatable",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getoption("--goldens")
    if chosen:
        missing = [str(path) for path in chosen if not path.is_dir()]
        if missing:
            raise pytest.UsageError(f"--goldens: no such folder: {', '.join(missing)}")
        goldens_io.roots[1:] = chosen


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = [item for item in items if _has_no_parameters(item)]
    for item in absent:
        if not item.get_closest_marker("large"):
            raise pytest.UsageError(f"{item.nodeid}: no golden file in tests/goldens is of its kind")
    items[:] = [item for item in items if item not in absent]
    config.hook.pytest_deselected(items=absent)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none here"))


def _has_no_parameters(item: pytest.Item) -> bool:
    return any("got empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_weights(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, on a machine without weight files."""
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(elsewhere / "no weights"))
    monkeypatch.setenv("HOME", str(elsewhere))


@pytest.fixture
def reset_accelerate() -> Iterator[None]:
    """Accelerate keeps the settings of its first Accelerator; this makes it forget them after the test."""
    yield
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The efficiency suite measures in this process; a new one for each number takes seconds to start."""
    import adapters
    from vaebench.profiling import worker
    from vaebench.suites import efficiency

    def here(self: object, job: worker.Job, what: str) -> dict[str, Any]:
        return worker.measure(what, job, adapters.resolve(job.name))

    monkeypatch.setattr(efficiency.Efficiency, "_spawn", here)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of 64x48."""
    return write(tmp_path_factory.mktemp("video") / "a.mp4", pictures(8))


@pytest.fixture
def tree(tmp_path: Path, video: Path) -> Path:
    """Four videos, and what is no clip."""
    root = tmp_path / "tree"
    for name in ("b.mp4", "sub/c.MOV", "sub/deep/d.mkv", "a b.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / name)
    for name in ("notes.txt", ".hidden.mp4"):
        (root / name).write_text("no clip")
    return root


@pytest.fixture(scope="session")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of UCF-101: two classes, three groups, six videos of 64x48; one with fewer frames than a span."""
    root = tmp_path_factory.mktemp("data") / "UCF-101"
    names = [f"{kind}/v_{kind}_g0{group}_c01" for kind in ("Archery", "YoYo") for group in (1, 2, 3)]
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        frames = pictures(20 if name.endswith("YoYo_g03_c01") else 56, seed=seed)
        write(root / f"{name}.avi", frames, codec="mpeg4")
    return root


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    """A miniature of SkyTimelapse: one recording with two scenes, the second too short."""
    root = tmp_path / "sky_train"
    for folder, count in (("07/07_1", 60), ("07/07_2", 48)):
        write_images(root / folder, pictures(count, 32, 40))
    return root
