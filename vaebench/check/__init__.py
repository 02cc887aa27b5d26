"""`vaebench check NAME`: the contract as tests that anyone can run on any adapter or checkpoint, a verdict a line.

The tests ask the VAE itself, by changing what goes in and watching what comes out: a wrong value range, an encoder that
looks ahead, a "whole" mode that works in pieces all show themselves, whatever the adapter says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

import adapters
from vaebench.check.contract import (
    batch,
    dtype_and_device,
    frame_rule,
    inputs_unchanged,
    parameters,
    shapes,
    sizes,
    weights_checksum,
)
from vaebench.check.modes import block_wise_against_whole, canary
from vaebench.check.quality import clamping, frame_shift, gain_and_offset, precision, value_range
from vaebench.check.reach import causality, hidden_pieces_of_time, hidden_tiles_of_space
from vaebench.check.state import determinism, other_clips
from vaebench.check.subject import Answer, Subject, subject_of
from vaebench.config import CheckConfig
from vaebench.machine import without_tf32
from vaebench.settings import parse
from vaebench.suite import Candidate

TESTS: tuple[Callable[[Subject], Answer], ...] = (
    weights_checksum,
    determinism,
    shapes,
    dtype_and_device,
    parameters,
    inputs_unchanged,
    frame_rule,
    sizes,
    value_range,
    gain_and_offset,
    frame_shift,
    clamping,
    precision,
    batch,
    other_clips,
    causality,
    hidden_pieces_of_time,
    hidden_tiles_of_space,
    block_wise_against_whole,
    canary,
)


@dataclass(frozen=True)
class Verdict:
    test: str
    passed: bool | None  # None: does not apply, `said` has the reason
    said: str

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: "n/a "}[self.passed]
        return f"{mark}  {self.test}: {'not applicable: ' if self.passed is None else ''}{self.said}"


def check(name: str, settings: Sequence[str]) -> int:
    """Print a verdict a line; 0 if none failed, 1 otherwise.

    ValueError for an unknown setting, ValueError or OSError if the VAE cannot be loaded.
    """
    config = parse(CheckConfig, settings)
    without_tf32()  # its error is a hundred times what the tests allow
    failed = 0
    for verdict in verdicts(adapters.resolve(name, config.weights), config):
        print(verdict, flush=True)
        failed += verdict.passed is False
    print(
        f"{name}: {'keeps the contract' if not failed else f'{failed} of the tests above failed'}",
        file=sys.stderr,
    )
    return int(failed > 0)


def verdicts(candidate: Candidate, config: CheckConfig) -> Iterator[Verdict]:
    """One verdict for each of TESTS, as soon as it is known."""
    subject = subject_of(candidate, config)
    for test in TESTS:
        try:
            with torch.inference_mode():
                passed, said = test(subject)
        except Exception as error:  # a crash is a verdict too, and the other tests still have something to say
            passed, said = False, f"{type(error).__name__}: {error}"
        yield Verdict(test.__name__.strip("_").replace("_", " "), passed, said)
