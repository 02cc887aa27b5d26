"""Decoding ahead: as many threads as cores, as many clips as memory allows, and what a suite prepares in the threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from vaebench import distributed, prefetch
from vaebench.prefetch import AHEAD, AHEAD_BYTES, Prefetch
from vaebench.suite import Case
from vaebench.video import Clip


def cases(count: int, frames: torch.Tensor) -> list[Case]:
    return [Case(f"clip{k}", Clip(f"clip{k}", 1.0, lambda: frames)) for k in range(count)]


SMALL = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)


@pytest.mark.parametrize(("available", "processes", "expected"), [(16, "1", 16), (16, "8", 2), (2, "8", 1), (4, "", 4)])
def test_cores_are_divided_among_the_processes_of_a_machine(
    available: int, processes: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(available)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert distributed.cores() == expected


@pytest.mark.parametrize(
    ("cores", "nbytes", "expected"),
    [
        (2, 12, AHEAD),
        (8, 12, 8),
        (64, 12, prefetch.MOST_THREADS),
        (8, AHEAD_BYTES // 3, 3),
        (8, 2 * AHEAD_BYTES, 1),
    ],
)
def test_clips_ahead_are_one_per_core_as_memory_allows(
    cores: int, nbytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "cores", lambda: cores)
    with Prefetch() as some:
        assert some.ahead() == AHEAD  # before the size of a clip is known
        for case in some.decoded(cases(1, torch.zeros(1, dtype=torch.uint8).expand(nbytes))):
            assert case.clip is not None
            case.clip.load()
        assert some.ahead() == expected


def test_what_a_suite_prepares_is_computed_in_the_decoding_thread() -> None:
    def prepare(case: Case, frames: torch.Tensor) -> tuple[str, str, int]:
        return case.id, threading.current_thread().name.partition("_")[0], frames.numel()

    with Prefetch() as some:
        found = [case.prepared() for case in some.decoded(cases(3, SMALL), prepare)]
    assert found == [(f"clip{k}", "decode", 12) for k in range(3)]


def test_a_case_without_a_clip_has_nothing_prepared() -> None:
    with Prefetch() as some:
        (case,) = some.decoded([Case("shape")], lambda case, frames: pytest.fail("there are no frames"))
    assert case.prepared() is None


def test_what_cannot_be_prepared_fails_the_cases_of_its_protocol_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench import runner
    from vaebench.config import parse_run
    from vaebench.suites.reconstruction import Reconstruction

    monkeypatch.chdir(tmp_path)
    real = Reconstruction.prepare

    def prepare(self: Reconstruction, case: Case, frames: torch.Tensor) -> object:
        if self.config.protocol == "vidtok":
            raise ValueError("planted")
        return real(self, case, frames)

    monkeypatch.setattr(Reconstruction, "prepare", prepare)
    measure = Reconstruction.measure
    monkeypatch.setattr(
        Reconstruction, "measure", lambda self, vae, case: (case.prepared(), measure(self, vae, case))[1]
    )
    words = ["vaes=[pool/4x8x8]", "num_frames=5", "size=32", "clips=2", "metrics=[psnr]", "protocol=default,vidtok"]
    outcome = runner.run(parse_run(words, suite="reconstruction"))
    assert [record.scores["psnr"].n for record in outcome.records] == [2]
    assert [failure.reason for _, failure in outcome.failed] == ["planted", "planted"]


@pytest.mark.gpu
def test_clips_for_a_gpu_are_in_pinned_memory() -> None:
    with Prefetch(torch.device("cuda")) as some:
        for case in some.decoded(cases(2, SMALL)):
            assert case.clip is not None
            frames = case.clip.load()
            assert frames.is_pinned()
            assert torch.equal(frames.to("cuda", non_blocking=True).cpu(), frames)
