"""`vaebench check NAME`: tests of the contract for any adapter or checkpoint, one line per test.

The tests change inputs of the VAE and compare its outputs.  They detect a wrong value range, an encoder that is not causal or a
"whole" mode that uses chunks, independently of what the adapter states.
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
from vaebench.check.reach import causality, hidden_chunks, hidden_tiles
from vaebench.check.state import determinism, other_clips
from vaebench.check.subject import Answer, Subject, subject_of
from vaebench.config import CheckConfig
from vaebench.machine import set_flags
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
    hidden_chunks,
    hidden_tiles,
    block_wise_against_whole,
    canary,
)


@dataclass(frozen=True)
class Verdict:
    """The result of one test."""

    test: str
    passed: bool | None  # None: not applicable
    sentence: str  # the measured values, or the reason why the test failed or is not applicable

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: "n/a "}[self.passed]
        return f"{mark}  {self.test}: {'not applicable: ' if self.passed is None else ''}{self.sentence}"


def check(name: str, settings: Sequence[str]) -> int:
    """Run all tests on a VAE and print one line per test.

    Args:
        name: family/variant, family/tiny or family:PATH
        settings: `key=value` words, see CheckConfig

    Returns:
        the exit code: 0 if no test failed, otherwise 1

    Raises:
        ValueError: a setting is unknown, or the VAE cannot be loaded
        OSError: the VAE cannot be loaded
    """
    config = parse(CheckConfig, settings)
    candidate = adapters.resolve(name, config.weights)
    if candidate.spec.codec:
        raise ValueError(f"{name} is a video codec; the tests of `vaebench check` are for VAEs")
    set_flags(tf32=False, cudnn_benchmark=False)  # the error of TF32 is 100 times the tolerance of the tests
    failed = 0
    for verdict in verdicts(candidate, config):
        print(verdict, flush=True)
        failed += verdict.passed is False
    print(
        f"{name}: {'meets the contract' if not failed else f'{failed} of {len(TESTS)} tests failed'}",
        file=sys.stderr,
    )
    return int(failed > 0)


def verdicts(candidate: Candidate, config: CheckConfig) -> Iterator[Verdict]:
    """Run the tests and yield the verdict of each."""
    subject = subject_of(candidate, config)
    for test in TESTS:
        try:
            with torch.inference_mode():
                passed, sentence = test(subject)
        except Exception as error:  # a crash is a failure, and the other tests still run
            passed, sentence = False, _one_line(error)
        yield Verdict(test.__name__.strip("_").replace("_", " "), passed, sentence)


def _one_line(error: Exception) -> str:
    """What an exception says; with its type, unless it is a ValueError, which is meant for the user."""
    text = " ".join(str(error).split())
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
