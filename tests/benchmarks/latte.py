"""Latte here against the official code: seconds of a training step and of sampling, same weights, same inputs.

    python tests/benchmarks/latte.py --official PATH [--model B/2] [--latent 32] [--frames 5] [--batch 1]
        [--device cpu|cuda] [--precision float32|bf16] [--threads N] [--steps 5] [--repeats 3] [--output FILE.json]

PATH is a checkout of github.com/Vchitect/Latte (it needs timm and einops). A training step is what `train.py` does after the
VAE: noise, forward, loss, backward, gradient norm, AdamW, EMA; sampling is `--steps` guided DDPM steps. Runs alternate
(theirs, ours, theirs, ours, ...) after one warm-up each, and medians are reported, on the clock and in processor time: on
a busy machine the second tells what the code itself took. `--precision bf16` is ours alone; the official code trains in
float32 (TF32 on CUDA, where both sides are given it).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from accelerate import Accelerator
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, timing
from vaebench.generation.latte.diffusion import linear, respaced
from vaebench.generation.latte.model import SIZES, Latte, LatteConfig
from vaebench.generation.latte.sample import Noise, chain, guided
from vaebench.generation.latte.train import TrainConfig, begin, update

Run = Callable[[], Tensor]


def config_of(args: argparse.Namespace) -> LatteConfig:
    """The configuration of an official size and patch, such as "L/2"."""
    size, _, patch = args.model.partition("/")
    depth, hidden, heads = SIZES[size]
    shape = {"frames": args.frames, "height": args.latent, "width": args.latent}
    return LatteConfig(patch=int(patch), depth=depth, hidden=hidden, heads=heads, classes=101, **shape)


def official_module(root: str, file: str) -> ModuleType:
    """One file of the official checkout, without its package, whose other files need other versions of libraries."""
    spec = importlib.util.spec_from_file_location(f"official_{Path(file).stem}", Path(root, file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_runs(args: argparse.Namespace, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Run]:
    """The official model, loss, gradient norm, AdamW and EMA, called as its `train.py` and `sample_ddp.py` call them."""
    sys.path.insert(0, args.official)
    from diffusion import create_diffusion

    config = config_of(args)
    model = official_module(args.official, "models/latte.py").Latte(
        input_size=args.latent, patch_size=config.patch, hidden_size=config.hidden, depth=config.depth,
        num_heads=config.heads, num_frames=args.frames, num_classes=101, extras=2,
    )  # fmt: skip
    model.load_state_dict(weights)
    model.to(args.device).eval()
    helpers = official_module(args.official, "utils.py")
    x0, noise, start = (inputs[name].transpose(1, 2).contiguous() for name in ("x0", "noise", "start"))
    kept: dict[str, object] = {}

    def train_step() -> Tensor:
        if not kept:
            kept["ema"] = copy.deepcopy(model).requires_grad_(False)
            kept["optimizer"] = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
        diffusion = create_diffusion("")
        loss = diffusion.training_losses(model, x0, inputs["t"], {"y": inputs["y"]}, noise=noise)["loss"].mean()
        loss.backward()
        helpers.clip_grad_norm_(model.parameters(), 0.1, clip_grad=False)
        kept["optimizer"].step()
        kept["optimizer"].zero_grad()
        helpers.update_ema(kept["ema"], model)
        return loss.detach()

    def sample() -> Tensor:
        torch.manual_seed(0)
        diffusion = create_diffusion(str(args.steps))
        y = torch.cat([inputs["y"], torch.full_like(inputs["y"], 101)])
        both = torch.cat([start, start])
        keywords = {"y": y, "cfg_scale": 7.0, "use_fp16": False}
        with torch.no_grad():
            out = diffusion.p_sample_loop(
                model.forward_with_cfg, both.shape, both, clip_denoised=False, model_kwargs=keywords,
                progress=False, device=args.device,
            )  # fmt: skip
        return out.chunk(2)[0]

    return {"sample": sample, "train_step": train_step}


def our_runs(args: argparse.Namespace, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Run]:
    model = Latte(config_of(args))
    model.load_state_dict(weights)
    accelerator = Accelerator(cpu=args.device == "cpu", mixed_precision="bf16" if args.precision == "bf16" else "no")
    model.to(args.device).eval()
    config = TrainConfig(batch=args.batch)
    schedule = linear().to(torch.device(args.device))
    state = []

    def train_step() -> Tensor:
        if not state:
            state.append(begin(model, config, accelerator))
            model.eval()  # as the official one here; neither has a layer that would notice
        return update(state[0], schedule, config, accelerator, tuple(inputs[k] for k in ("x0", "noise", "t", "y"))).loss

    def sample() -> Tensor:
        noise = Noise(range(args.batch), inputs["start"].shape[1:], torch.device(args.device))
        with accelerator.autocast():
            *_, last = chain(
                guided(model, inputs["y"], 7.0), inputs["start"], respaced(linear(), str(args.steps)), noise
            )
        return last.sample

    return {"sample": sample, "train_step": train_step}


def measure(runs: dict[str, Run], args: argparse.Namespace) -> tuple[dict[str, dict[str, list[float]]], float]:
    """Alternating runs after a warm-up of each: {"clock" | "processor": {side: seconds}}; and how far the sides' first
    results lie apart."""
    times: dict[str, dict[str, list[float]]] = {"clock": {}, "processor": {}}
    first: dict[str, Tensor] = {}
    for repeat in range(args.repeats + 1):
        for side, run in runs.items():
            timing.synchronize(torch.device(args.device))
            clock, processor = time.perf_counter(), time.process_time()
            result = run()
            timing.synchronize(torch.device(args.device))
            first.setdefault(side, result.detach().float().mean())
            if repeat:
                times["clock"].setdefault(side, []).append(time.perf_counter() - clock)
                times["processor"].setdefault(side, []).append(time.process_time() - processor)
    return times, abs(first["official"] - first["ours"]).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, metavar="PATH")
    parser.add_argument("--model", default="B/2")
    parser.add_argument("--latent", type=int, default=32, help="latent height and width")
    parser.add_argument("--frames", type=int, default=5, help="latent frames")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    torch.manual_seed(0)
    model = Latte(config_of(args))
    for value in model.parameters():
        if not value.any():  # silent layers would make every output zero
            torch.nn.init.normal_(value, std=0.02)
    weights = {key: value.detach() for key, value in model.state_dict().items()}
    del model
    x0, noise, start = torch.randn(3, args.batch, 4, args.frames, args.latent, args.latent).to(args.device)
    t, y = torch.randint(1000, (args.batch,)).to(args.device), torch.randint(101, (args.batch,)).to(args.device)
    inputs = {"x0": x0, "noise": noise, "start": start, "t": t, "y": y}

    sides = {"official": official_runs(args, weights, inputs), "ours": our_runs(args, weights, inputs)}
    rows = []
    for case in ("sample", "train_step"):
        runs = {side: built[case] for side, built in sides.items()}
        times, difference = measure(runs, args)
        middle = {k: {side: statistics.median(v) for side, v in sides_.items()} for k, sides_ in times.items()}
        rows.append({
            "case": case,
            "official_s": middle["clock"]["official"],
            "ours_s": middle["clock"]["ours"],
            "speedup": middle["clock"]["official"] / middle["clock"]["ours"],
            "official_processor_s": middle["processor"]["official"],
            "ours_processor_s": middle["processor"]["ours"],
            "processor_speedup": middle["processor"]["official"] / middle["processor"]["ours"],
            "all_s": times["clock"],
            # sampling draws its noise in another order on each side, so there only the loss can be compared
            **({"loss_difference": difference} if case == "train_step" else {}),
        })  # fmt: skip
        row = rows[-1]
        print(
            f"{case:12} {row['official_s']:8.2f} s -> {row['ours_s']:8.2f} s  x{row['speedup']:.2f}   "
            f"(processor time x{row['processor_speedup']:.2f})",
            flush=True,
        )
    if args.output:
        commit = subprocess.run(["git", "-C", args.official, "rev-parse", "HEAD"], capture_output=True, text=True)
        names = ("model", "latent", "frames", "batch", "device", "precision", "threads", "steps", "repeats")
        record = {
            "benchmark": "latte",
            "setting": {name: getattr(args, name) for name in names},
            "official_commit": commit.stdout.strip(),
            "machine": dataclasses.asdict(machine.describe(torch.device(args.device))),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
