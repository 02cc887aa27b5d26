"""The smoke recipe twice with one seed, and a third time killed (SIGKILL) at step 120 and resumed: is the run the same?

    python tests/benchmarks/training_resume.py [--kill-at 120] [--output results/training/smoke.json]

Compares the logged curves digit for digit and the final weights bit for bit.  Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine
from wfvae import state

ROOT = Path(__file__).resolve().parents[2]


def start(run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vaebench", "train", "smoke", "trainer.steps=200", f"run={run}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(run: Path) -> None:
    if start(run).wait():
        raise SystemExit(f"training in {run} failed; run `vaebench train smoke` to see why")


def curve(run: Path) -> list[dict[str, str]]:
    file = run / "log.csv"
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.is_file() else []
    return [{name: value for name, value in row.items() if name != "clips_per_s"} for row in rows]


def equal_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(state.checkpoints(run)[-1] / state.WEIGHTS) for run in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kill-at", type=int, default=120)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, two, killed = (Path(folder, name) for name in ("one", "two", "killed"))
        finish(one)
        finish(two)
        process = start(killed)
        while len(curve(killed)) < args.kill_at:
            if process.poll() is not None:
                raise SystemExit("the run ended before it could be killed")
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        logged = len(curve(killed))
        resumed_from = int(state.checkpoints(killed)[-1].name.removeprefix("step-"))
        finish(killed)
        found = curve(one)
        losses = [float(row["pixel"]) for row in found]
        record = {
            "what": "recipe smoke, 200 steps on synthetic motion",
            "mean_pixel_loss": {"steps 1-20": sum(losses[:20]) / 20, "steps 181-200": sum(losses[-20:]) / 20},
            "twice_with_one_seed": {"curves_equal": found == curve(two), "weights_equal": equal_weights(one, two)},
            "killed": {
                "steps_logged_when_killed": logged,
                "resumed_from_step": resumed_from,
                "curves_equal": found == curve(killed),
                "weights_equal": equal_weights(one, killed),
            },
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
        }
    text = json.dumps(record, indent=1)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
