"""Reading from a far start: wrong frames, and how often a seek is taken, over containers and codecs.

    python tests/benchmarks/seek.py [--cases DIR] [--output results/benchmarks/seek.json]

Videos of 120 frames are made here, with a key frame every 24; DIR holds more files.  One frame is read from every start
between 48 and 117 and compared with the same frame when the file is read from its beginning.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.videos import pictures, write
from vaebench.video_io import decode

FRAMES = 120
STARTS = range(48, 118)
B = {"g": "24", "bf": "2"}
H265 = {"x265-params": "log-level=none:keyint=24"}
KINDS = [
    ("libx264", B, ("mp4", "mov", "mkv", "avi", "ts")),
    ("libx265", H265, ("mp4", "mkv", "ts")),
    ("mpeg4", B, ("mp4", "mkv", "avi")),
    ("mpeg2video", B, ("mpg", "ts")),
    ("libvpx", {"g": "24", "auto-alt-ref": "1", "lag-in-frames": "16"}, ("webm",)),
    ("libvpx-vp9", {"g": "24", "auto-alt-ref": "1", "lag-in-frames": "16"}, ("webm", "mp4")),
    ("ffv1", {}, ("mkv",)),
]


def measure(file: Path) -> dict[str, Any]:
    whole = list(decode.read(file, 0, FRAMES))
    wrong = seeks = 0
    for start in STARTS:
        (pixels,) = decode.read(file, start, 1)
        wrong += not np.array_equal(pixels, whole[start])
        seeks += bool(list(decode._entered(file, None, start, 1)))
    return {"starts": len(STARTS), "wrong_frames": wrong, "seeks": seeks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for codec, options, endings in KINDS:
            for ending in endings:
                pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
                name = Path(folder) / f"{codec}.{ending}"
                files.append(write(name, pictures(FRAMES), codec, pix_fmt, options=options))
        if args.cases:
            files += sorted(file for file in args.cases.iterdir() if file.suffix in (".avi", ".mp4", ".mkv", ".webm"))
        for file in files:
            rows[file.name] = measure(file)
            print(file.name, rows[file.name], flush=True)
    record = {"what": "one frame from every start between 48 and 117", "files": rows, "av": av.__version__}
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
