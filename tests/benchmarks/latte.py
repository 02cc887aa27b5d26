"""Latte here against the official code, and against a floor: seconds of a training step and of guided sampling.

    python tests/benchmarks/latte.py --official PATH [--model B/2] [--latent 16] [--frames 5] [--batch 1]
        [--device cpu|cuda] [--precision float32|bf16] [--threads 1] [--steps 2] [--pairs 5] [--compile]
        [--output FILE.json]

PATH is a checkout of github.com/Vchitect/Latte (it needs timm, einops and tensorboard).  All sides have the same weights and
inputs.  A training step is what `train.py` does after the VAE: noise, forward, loss, backward, gradient norm, AdamW, EMA;
sampling is `--steps` guided DDPM steps.  `--precision bf16` is ours alone; the official code trains in float32 (TF32 on CUDA,
where both sides are given it).

The floor is what no rearrangement of float32 arithmetic removes: the matrix products of the network with one row per token
(one per sample for the conditioning), written to memory allocated before; attention by `scaled_dot_product_attention`; in
training their gradients, and one call each of the gradient norm, the fused AdamW and the moving average.  It leaves out biases,
norms, modulation, GELU, residuals, the loss, copies and allocations.

Each side is a process of its own, because the settings of the allocator are of a process.  Sides alternate (official, ours,
floor, official, ...) after one warm-up each.  The record holds median, lowest and highest
seconds, on the clock and in processor time (on a busy machine the second tells what the code itself took), and the median,
lowest and highest of the ratios of neighbouring runs.  `--compile` adds our model under `torch.compile`; its warm-up, which
compiles, is recorded on its own.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench import machine, timing
from vaebench.allocator import freed_memory_kept
from vaebench.generation.latte.diffusion import linear, respaced
from vaebench.generation.latte.model import SIZES, Latte, LatteConfig
from vaebench.generation.latte.sample import Noise, chain, guided
from vaebench.generation.latte.train import TrainConfig, begin, update

Run = Callable[[], Tensor]
Weights = dict[str, Tensor]


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


def official_runs(args: argparse.Namespace, weights: Weights, inputs: Weights) -> dict[str, Run]:
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
    every_step, some_steps = create_diffusion(""), create_diffusion(str(args.steps))
    kept: dict[str, Any] = {}

    def train_step() -> Tensor:
        if not kept:
            kept["ema"] = copy.deepcopy(model).requires_grad_(False)
            kept["optimizer"] = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
        loss = every_step.training_losses(model, x0, inputs["t"], {"y": inputs["y"]}, noise=noise)["loss"].mean()
        loss.backward()
        helpers.clip_grad_norm_(model.parameters(), 0.1, clip_grad=False)
        kept["optimizer"].step()
        kept["optimizer"].zero_grad()
        helpers.update_ema(kept["ema"], model)
        return loss.detach()

    def sample() -> Tensor:
        torch.manual_seed(0)
        y = torch.cat([inputs["y"], torch.full_like(inputs["y"], 101)])
        both = torch.cat([start, start])
        keywords = {"y": y, "cfg_scale": 7.0, "use_fp16": False}
        with torch.no_grad():
            out = some_steps.p_sample_loop(
                model.forward_with_cfg, both.shape, both, clip_denoised=False, model_kwargs=keywords,
                progress=False, device=args.device,
            )  # fmt: skip
        return out.chunk(2)[0]

    return {"sample": sample, "train_step": train_step}


def our_runs(args: argparse.Namespace, weights: Weights, inputs: Weights, *, compiled: bool = False) -> dict[str, Run]:
    model = Latte(config_of(args))
    model.load_state_dict(weights)
    accelerator = Accelerator(cpu=args.device == "cpu", mixed_precision="bf16" if args.precision == "bf16" else "no")
    model.to(args.device).eval()
    if compiled:
        model.compile()
    config = TrainConfig(batch=args.batch)
    schedule = linear().to(torch.device(args.device))
    some_steps = respaced(linear(), str(args.steps))
    state = []

    def train_step() -> Tensor:
        if not state:
            state.append(begin(model, config, accelerator))
            model.eval()  # as the official one here; neither has a layer that would notice
        return update(state[0], schedule, config, accelerator, tuple(inputs[k] for k in ("x0", "noise", "t", "y"))).loss

    def sample() -> Tensor:
        noise = Noise(range(args.batch), inputs["start"].shape[1:], torch.device(args.device))
        with accelerator.autocast():
            *_, last = chain(guided(model, inputs["y"], 7.0), inputs["start"], some_steps, noise)
        return last.sample

    return {"sample": sample, "train_step": train_step}


class Floor:
    """The bare products, attention and optimizer of a step, and the processor seconds that each part took last."""

    def __init__(self, args: argparse.Namespace, weights: Weights, *, samples: int) -> None:
        config = config_of(args)
        tokens = samples * config.frames * config.grid[0] * config.grid[1]
        self.weights = {
            key: weight.flatten(1).to(args.device)
            for key, weight in weights.items()
            if key.endswith("weight") and "table" not in key
        }
        conditioning = ("t_embedder", "adaLN")
        self.rows = {key: samples if any(part in key for part in conditioning) else tokens for key in self.weights}
        shapes = {(self.rows[key], width) for key, weight in self.weights.items() for width in weight.shape}
        self.inputs = {shape: torch.randn(shape, device=args.device) for shape in shapes}
        self.outputs = {shape: torch.empty(shape, device=args.device) for shape in shapes}
        # queries, keys and values as views of one product, the layout that a network gives
        space, time_ = (tokens // config.grid[0] // config.grid[1], -1), (tokens // config.frames, -1)
        self.attended = [
            torch.randn(tokens, 3 * config.hidden, device=args.device)
            .view(*shape, 3, config.heads, config.hidden // config.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
            for shape in (space, time_)
        ] * (config.depth // 2)
        self.parts: dict[str, float] = {}

    def _timed(self, part: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        self.parts[part] = self.parts.get(part, 0.0) + time.process_time() - start

    def products(self) -> None:
        for key, weight in self.weights.items():
            rows, (out, width) = self.rows[key], weight.shape
            torch.mm(self.inputs[rows, width], weight.t(), out=self.outputs[rows, out])

    def attention(self) -> None:
        for q, k, v in self.attended:
            F.scaled_dot_product_attention(q, k, v)

    def sample(self, steps: int) -> Tensor:
        self.parts = {}
        with torch.no_grad():
            for _ in range(steps):
                self._timed("products", self.products)
                self._timed("attention", self.attention)
        return torch.zeros(())


class TrainingFloor(Floor):
    def __init__(self, args: argparse.Namespace, weights: Weights, *, samples: int) -> None:
        super().__init__(args, weights, samples=samples)
        trained = {
            key: torch.nn.Parameter(weight.clone().to(args.device))
            for key, weight in weights.items()
            if key not in ("pos_embed", "temp_embed")
        }
        for weight in trained.values():
            weight.grad = torch.full_like(weight, 1e-3)
        self.gradients = {key: trained[key].grad.flatten(1) for key in self.weights}
        self.trained = list(trained.values())
        self.averaged = [weight.detach().clone() for weight in self.trained]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.0, fused=True)
        for parts in self.attended:
            for part in parts:
                part.requires_grad_()

    def backward_products(self) -> None:
        for key, weight in self.weights.items():
            rows, (out, width) = self.rows[key], weight.shape
            gradient = self.inputs[rows, out]
            torch.mm(gradient.t(), self.inputs[rows, width], out=self.gradients[key])
            if not key.startswith("x_embedder"):  # latents need no gradient
                torch.mm(gradient, weight, out=self.outputs[rows, width])

    def both_attentions(self) -> None:
        for parts in self.attended:
            out = F.scaled_dot_product_attention(*parts)
            torch.autograd.grad(out, parts, out.detach())

    def optimize(self) -> None:
        gradients = [weight.grad for weight in self.trained]
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.trained, 1e-4)

    def step(self) -> Tensor:
        self.parts = {}
        self._timed("products", self.products)
        self._timed("products", self.backward_products)
        self._timed("attention", self.both_attentions)
        self._timed("optimizer", self.optimize)
        return torch.zeros(())


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Inputs(NamedTuple):
    """The same in every process: drawn from one seed."""

    weights: Weights
    tensors: Weights

    @classmethod
    def draw(cls, args: argparse.Namespace) -> Inputs:
        torch.manual_seed(0)
        model = Latte(config_of(args))
        for value in model.parameters():
            if not value.any():  # silent layers would make every output zero
                torch.nn.init.normal_(value, std=0.02)
        x0, noise, start = torch.randn(3, args.batch, 4, args.frames, args.latent, args.latent).to(args.device)
        t, y = torch.randint(1000, (args.batch,)).to(args.device), torch.randint(101, (args.batch,)).to(args.device)
        weights = {key: value.detach() for key, value in model.state_dict().items()}
        return cls(weights, {"x0": x0, "noise": noise, "start": start, "t": t, "y": y})


class Done(NamedTuple):
    """A run: its seconds, the mean of its result, and the seconds of the floor's parts."""

    clock_s: float
    processor_s: float
    mean: float
    parts: dict[str, float]


def serve(side: str, args: argparse.Namespace, pipe: Connection) -> None:
    """One side in a process of its own: runs each case that the pipe names, until it names none."""
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    weights, tensors = Inputs.draw(args)
    floor: Floor | None = None
    runs: dict[str, Run]
    if side == "official":
        runs = official_runs(args, weights, tensors)
    elif side == "floor":
        floor = TrainingFloor(args, weights, samples=args.batch)
        sampling = Floor(args, weights, samples=2 * args.batch)
        runs = {"sample": lambda: sampling.sample(args.steps), "train_step": floor.step}
    else:
        runs = our_runs(args, weights, tensors, compiled=side == "compiled")
    device = torch.device(args.device)
    # `train` keeps freed memory too; the official code leaves the allocator as it is
    with nullcontext() if side == "official" else freed_memory_kept():
        while case := pipe.recv():
            timing.synchronize(device)
            clock, processor = time.perf_counter(), time.process_time()
            result = runs[case]()
            timing.synchronize(device)
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            parts = {} if floor is None else (floor if case == "train_step" else sampling).parts
            pipe.send(Done(clock, processor, result.detach().float().mean().item(), parts))


def measure(pipes: dict[str, Connection], case: str, pairs: int) -> dict[str, Any]:
    """Alternating runs of the sides after a warm-up of each."""
    done: dict[str, list[Done]] = {side: [] for side in pipes}
    for _ in range(pairs + 1):
        for side, pipe in pipes.items():
            pipe.send(case)
            done[side].append(pipe.recv())
    row: dict[str, Any] = {"case": case}
    for name in ("clock_s", "processor_s"):
        sides = {side: [getattr(run, name) for run in runs[1:]] for side, runs in done.items()}
        row[name] = {side: spread(seconds) for side, seconds in sides.items()}
        ratios = [("official", side) for side in sides if side != "official"]
        ratios += [(side, "floor") for side in sides if side not in ("official", "floor")]
        row[name.replace("_s", "_ratio")] = {
            f"{a} / {b}": spread([x / y for x, y in zip(sides[a], sides[b], strict=True)]) for a, b in ratios
        }
    row["floor_parts_processor_s"] = {
        part: statistics.median(run.parts[part] for run in done["floor"][1:]) for part in done["floor"][0].parts
    }
    row["warmup_s"] = {side: runs[0].clock_s for side, runs in done.items()}
    if case == "train_step":  # sampling draws its noise in another order on each side
        row["loss_difference"] = abs(done["official"][0].mean - done["ours"][0].mean)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, metavar="PATH")
    parser.add_argument("--model", default="B/2")
    parser.add_argument("--latent", type=int, default=16, help="latent height and width")
    parser.add_argument("--frames", type=int, default=5, help="latent frames")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for side in ("official", "ours", *(["compiled"] if args.compile else []), "floor"):
        pipes[side], other = spawn.Pipe()
        spawn.Process(target=serve, args=(side, args, other), daemon=True).start()
        other.close()
    rows = []
    for case in ("sample", "train_step"):
        row = measure(pipes, case, args.pairs)
        rows.append(row)
        for clock in ("clock", "processor"):
            ratios = ", ".join(
                f"{name} {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
                for name, ratio in row[f"{clock}_ratio"].items()
            )
            seconds = ", ".join(f"{side} {value['median']:.2f}" for side, value in row[f"{clock}_s"].items())
            print(f"{case:10} {clock:9} seconds: {seconds}; {ratios}", flush=True)
        parts = row["floor_parts_processor_s"].items()
        print(f"{case:10} floor: " + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts), flush=True)
    for pipe in pipes.values():
        pipe.send("")
    if args.output:
        commit = subprocess.run(["git", "-C", args.official, "rev-parse", "HEAD"], capture_output=True, text=True)
        names = ("model", "latent", "frames", "batch", "device", "precision", "threads", "steps", "pairs")
        record = {
            "benchmark": "latte",
            "setting": {name: getattr(args, name) for name in names},
            "official_commit": commit.stdout.strip(),
            "official_packages": {name: metadata.version(name) for name in ("timm", "einops")},
            "machine": dataclasses.asdict(machine.describe(torch.device(args.device))),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
