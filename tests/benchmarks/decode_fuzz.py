"""Damaged copies of the bundled clips: how many are refused, and how many are read with wrong pixels.

    python tests/benchmarks/decode_fuzz.py [--variants 300] [--seed 42] [--output results/benchmarks/decode_fuzz.json]

A variant flips 1 to 20 bits of a clip, or cuts it off, at seeded places.  Its first 33 frames are read and compared with the
sound clip's.  `wrong` variants are accepted with other pixels: FFmpeg does not mark them, and only a checksum shows them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench.data import bundle
from vaebench.video_io import decode

BUNDLE = bundle.ROOT
CLIPS = ("sign_language_walk.mp4", "flower_bloom_timelapse.mp4", "cars_overhead.mp4", "hangar_low_light.mp4")
FRAMES = 33


class Variant(NamedTuple):
    clip: str
    damage: str  # what was done to the file
    outcome: str  # "refused", "identical" or "wrong"
    said: str  # why it was refused, or how wrong it is


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """What was done, and the result."""
    if rng.random() < 0.2:
        length = int(rng.integers(len(content) // 10, len(content)))
        return f"cut to {length} bytes", content[:length]
    changed = bytearray(content)
    places = rng.integers(0, len(content), int(rng.integers(1, 21)))
    for place in places:
        changed[place] ^= 1 << int(rng.integers(8))
    return f"{len(places)} bits flipped, the first in byte {min(places)}", bytes(changed)


def variants(count: int, seed: int) -> Iterator[Variant]:
    """`count` variants, the clips in turn."""
    rng = np.random.default_rng(seed)
    sound = {clip: np.stack(list(decode.read(BUNDLE / clip, 0, FRAMES))) for clip in CLIPS}
    for number in range(count):
        clip = CLIPS[number % len(CLIPS)]
        damage, content = damaged((BUNDLE / clip).read_bytes(), rng)
        try:
            found = np.stack(list(decode.read(clip, 0, FRAMES, content)))
        except (ValueError, OSError) as reason:
            yield Variant(clip, damage, "refused", str(reason))
            continue
        if found.shape == sound[clip].shape and np.array_equal(found, sound[clip]):
            yield Variant(clip, damage, "identical", "")
        else:
            error = np.abs(found.astype(int) - sound[clip]) if found.shape == sound[clip].shape else np.array([255])
            frames = int((error.reshape(len(error), -1).max(axis=1) > 0).sum())
            yield Variant(
                clip, damage, "wrong", f"{frames} frames, {error.max()} levels at most, {error.mean():.3g} on average"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    found = []
    for variant in variants(args.variants, args.seed):
        found.append(variant)
        if variant.outcome == "wrong":
            print(*variant, sep="; ", flush=True)
    record = {
        "what": f"damaged copies of {len(CLIPS)} bundled clips, the first {FRAMES} frames read",
        "variants": args.variants,
        "seed": args.seed,
        "outcomes": dict(Counter(variant.outcome for variant in found)),
        "accepted_with_wrong_pixels": [variant._asdict() for variant in found if variant.outcome == "wrong"],
        "av": av.__version__,
        "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
    }
    print(json.dumps(record, indent=1))
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
