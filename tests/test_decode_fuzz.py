"""A short version of tests/benchmarks/decode_fuzz.py: damage that FFmpeg marks is never read as a sound clip."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.benchmarks import decode_fuzz
from vaebench.video_io import decode


def test_damaged_clips_are_refused_or_read_without_an_error() -> None:
    outcomes = Counter(variant.outcome for variant in decode_fuzz.variants(24, seed=7))
    assert outcomes["wrong"] == 0
    assert outcomes["refused"] >= 12


def test_one_flipped_bit_that_ffmpeg_only_marks_is_refused() -> None:
    content = bytearray((decode_fuzz.BUNDLE / "sign_language_walk.mp4").read_bytes())
    content[6028] ^= 1 << 4
    with pytest.raises(ValueError, match=r"flipped\.mp4: damaged at frame 0"):
        list(decode.read("flipped.mp4", 0, 33, bytes(content)))
