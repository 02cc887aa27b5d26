"""Energy and entropy of the Haar sub-bands of the bundled clips, the paper's Figure 8, as a record that the plot draws.

python tests/benchmarks/subbands.py --output results/subbands/bundle-33x256.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import plugins
from vaebench.config import parse_run
from vaebench.video import to_model
from wfvae.subbands import NAMES, subbands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    config = parse_run([])
    source = plugins.find("data", config.data).build(config)
    with torch.inference_mode():
        found = subbands(to_model(clip.load()).unsqueeze(0) for clip in source)
    record = {
        "setting": f"{config.data}-{config.num_frames}x{config.size}",
        "clips": found.num_clips,
        "coefficients": found.num_coefficients,
        "names": NAMES,
        "energy": found.energy,
        "share": found.energy_share,
        "entropy_bits": found.entropy_bits,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
