"""The processor time of the blockwise suite, and its memory ratios, now and at an earlier commit: one thread, on a CPU.

    python tests/benchmarks/blockwise.py [--commit a79706a] [--repeats 3] [--output results/benchmarks/blockwise.json]

Both run in turn in processes of their own, in the other order every other time, and each ratio is of a pair of neighbours; the
median ratio is the figure on a machine that others use.  The largest change of a score that is not a cost stands beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine

ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from vaebench.cli import main; sys.exit(main(sys.argv[1:]))"


def run(checkout: Path, words: list[str]) -> dict[str, Any]:
    """One run of the suite from the code in `checkout`: user and system seconds, and the record."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RUN, "run", "--suite", "blockwise", *words]
        paths = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **paths}, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"vaebench run --suite blockwise {' '.join(words)} failed in {checkout}")
        (file,) = Path(folder).glob("runs/results/blockwise/*/*.json")
        record = json.loads(file.read_text())
    return {"user_s": usage.ru_utime, "system_s": usage.ru_stime, "scores": record["scores"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="a79706a")
    parser.add_argument("--repeats", type=int, default=3)
    for name, default in (("clips", 4), ("frames", 33), ("size", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vae", default="wfvae/tiny")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    words = [f"vaes=[{args.vae}]", f"clips={args.clips}", f"num_frames={args.frames}", f"size={args.size}"]
    words += ["metrics=[psnr,ssim]", "device=cpu"]
    runs: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", args.commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        for i in range(args.repeats):
            for side, checkout in (("before", Path(folder)), ("now", ROOT))[:: -1 if i % 2 else 1]:
                runs[side].append(run(checkout, words))
                found = runs[side][-1]
                memory = {key: round(s["value"], 3) for key, s in found["scores"].items() if "memory@" in key}
                print(
                    f"{side:6} user {found['user_s']:6.2f} s  system {found['system_s']:6.2f} s  {memory}", flush=True
                )

    def values(side: str, kind: str) -> dict[str, list[float]]:
        names = [name for name in runs[side][0]["scores"] if name.startswith(f"{kind}@")]
        return {name: [found["scores"][name]["value"] for found in runs[side]] for name in names}

    seconds = {side: [found["user_s"] + found["system_s"] for found in runs[side]] for side in runs}
    ratios = [before / now for before, now in zip(seconds["before"], seconds["now"], strict=True)]
    first, second = (runs[side][0]["scores"] for side in ("before", "now"))
    quality = [name for name in first if not name.startswith(("time@", "memory@"))]
    difference = max(abs(first[name]["value"] - second[name]["value"]) for name in quality)
    print(f"before / now: {statistics.median(ratios):.2f}; largest change of a score: {difference:.1e}")
    if args.output:
        record = {
            "benchmark": "blockwise",
            "before": args.commit,
            "words": words,
            "threads": 1,
            "repeats": args.repeats,
            "processor_s": seconds,
            "system_s": {side: [found["system_s"] for found in runs[side]] for side in runs},
            "before_over_now": statistics.median(ratios),
            "ratios": ratios,
            "memory": {side: values(side, "memory") for side in runs},
            "time": {side: values(side, "time") for side in runs},
            "largest_change_of_a_score": difference,
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
        }
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
