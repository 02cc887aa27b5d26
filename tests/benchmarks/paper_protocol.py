"""`protocol=wfvae-paper` against the official evaluation scripts: the same clips, the same weights, metric by metric.

    python tests/benchmarks/paper_protocol.py --official PATH [--frames 17] [--size 128] [--clips 8] [--seeds 3] [--threads 1]
        [--output FILE.json]

PATH is a clone of github.com/PKU-YuanGroup/WF-VAE; scripts/recon_video.py and scripts/eval.py of its commit 27adef1, the release
of the paper, run unchanged in processes of their own (they need opencv-python-headless, decord, einops and accelerate).  Both sides
evaluate wfvae/tiny on clips of the bundle.  Three comparisons:

    same VAE       the scripts run our implementation of the network; every frame and score should be equal
    official VAE   the scripts run their own implementation, in bfloat16, in which both round differently
    sample         as "official VAE", but the posterior is sampled as published; both sides draw noise with several seeds

The first two decode the mode of the posterior, because the noise of two implementations cannot be equal.  Where the weights of
AlexNet (LPIPS) or I3D are missing, both sides use one network of the published architecture with the same random weights, and the
record says so: it compares the pipeline then, and its LPIPS and I3D distances are no measure of quality.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import runpy
import statistics
import subprocess
import sys
import tarfile
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

COMMIT = "27adef1"
BUNDLE = ROOT / "vaebench" / "data" / "bundle"
METRICS = {"psnr": "psnr", "ssim": "ssim", "lpips": "lpips", "i3d_l2": "fvd"}  # ours -> --metric of eval.py
I3D_FILE = "causalvideovae/eval/fvd/styleganv/i3d_torchscript.pt"


def tiny(dtype: torch.dtype) -> Any:
    from vaebench import load

    return load("wfvae/tiny", dtype=dtype)


# --- weights that both sides share ---------------------------------------------------------------------------------


def alexnet(folder: Path) -> tuple[Path, str]:
    """The weights of LPIPS's backbone, and where they come from."""
    import torchvision

    from vaebench import weights

    try:
        return weights.verified("alexnet"), "torchvision"
    except weights.Unavailable:
        file = folder / "alexnet.pth"
        torch.manual_seed(0)
        torch.save(torchvision.models.alexnet(weights=None).state_dict(), file)
        return file, "random"


def perceptual(file: str, spatial: bool) -> nn.Module:
    """LPIPS of the lpips package with this backbone."""
    import lpips

    from vaebench.features.lpips import fill

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = lpips.LPIPS(net="alex", spatial=spatial, pnet_rand=True, verbose=False).eval()
    fill(network, Path(file))
    return network.requires_grad_(False)


class I3D(nn.Module):
    """An I3D that is called as StyleGAN-V's TorchScript file is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert not rescale and not resize and return_features  # noqa: PT018 (TorchScript)
        return self.network(x)


def i3d(folder: Path, frames: int) -> tuple[Path, str]:
    """The TorchScript file of I3D, and where it comes from."""
    from vaebench import weights
    from vaebench.features.i3d import InceptionI3d

    try:
        return weights.verified("i3d"), "StyleGAN-V"
    except weights.Unavailable:
        torch.manual_seed(0)
        network = InceptionI3d()
        for name, weight in network.named_parameters():
            if weight.ndim == 5:  # variance-preserving, or features would vanish
                nn.init.kaiming_normal_(weight, nonlinearity="linear" if name.startswith("logits") else "relu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript; sizes are those of the example
            traced = torch.jit.trace(network, torch.zeros(1, 3, frames, 224, 224))
            file = folder / "i3d.pt"
            torch.jit.script(I3D(traced)).save(str(file))
        return file, "random"


# --- the official side: one script in this process -----------------------------------------------------------------


def worker(args: argparse.Namespace) -> None:
    """Run `args.script` of the extracted repository, which is the working directory, with the shared weights."""
    task = json.loads(args.worker)
    sys.path.insert(0, os.getcwd())
    warnings.simplefilter("ignore")
    if task["script"] == "scripts/eval.py":
        import lpips

        network = perceptual(task["alexnet"], spatial=True)
        lpips.LPIPS = lambda net, spatial: network
    else:
        torch.manual_seed(task["seed"])
        from causalvideovae.model.registry import ModelRegistry
        from causalvideovae.model.utils.distrib_utils import DiagonalGaussianDistribution

        if task["posterior"] == "mode":
            DiagonalGaussianDistribution.sample = DiagonalGaussianDistribution.mode
        if task["vae"] == "same":
            import causalvideovae.model  # registers the official one, which is replaced

            assert causalvideovae.model
            ModelRegistry._models["WFVAE"] = types.SimpleNamespace(from_pretrained=lambda path: Ours())
    for arguments in task["arguments"]:
        sys.argv = [task["script"], *arguments]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(task["script"], run_name="__main__")
        print((printed.getvalue().split() or [""])[-1])


class Ours:
    """Our implementation with the methods that recon_video.py calls."""

    def to(self, where: Any) -> Ours:
        if isinstance(where, torch.dtype):
            self.vae = tiny(where)
        return self

    def encode(self, x: torch.Tensor) -> Any:
        latent = self.vae.encode(x.float()).mode()
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(sample=lambda: latent))

    def decode(self, latent: torch.Tensor) -> Any:
        return types.SimpleNamespace(sample=self.vae.decode(latent).bfloat16())


def official(args: argparse.Namespace, repository: Path, clips: Path, shared: dict[str, str], **how: Any) -> Any:
    """The scores that the scripts print, and the folder with the videos that they wrote."""
    out = Path(tempfile.mkdtemp(dir=repository))
    size = str(args.size)
    common = ["--num_frames", str(args.frames), "--resolution", size, "--crop_size", size, "--num_workers", "0"]
    reconstruct = [
        "--real_video_dir", str(clips), "--generated_video_dir", str(out), "--from_pretrained", str(repository / "tiny"),
        "--model_name", "WFVAE", "--device", "cpu", "--batch_size", "1", "--sample_fps", "24", "--output_origin", *common,
    ]  # fmt: skip
    call(args, repository, script="scripts/recon_video.py", **shared, **how, arguments=[reconstruct])
    score = ["--real_video_dir", str(out / "origin"), "--generated_video_dir", str(out), "--device", "cpu",
             "--batch_size", "1", "--sample_fps", "1", *common]  # fmt: skip
    metrics = [[*score, "--metric", theirs] for theirs in METRICS.values()]
    printed = call(args, repository, script="scripts/eval.py", **shared, arguments=metrics)
    return dict(zip(METRICS, map(float, printed.split()), strict=True)), out


def call(args: argparse.Namespace, repository: Path, **task: Any) -> str:
    """What a script prints."""
    command = [sys.executable, __file__, "--worker", json.dumps(task), "--threads", str(args.threads)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{task['script']} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


# --- our side ------------------------------------------------------------------------------------------------------


def here(args: argparse.Namespace, posterior: str, seed: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Our scores, and the scored frames of each video: uint8 (2, 3, T, H, W), reference and reconstruction."""
    from vaebench import evaluate, protocol

    scored: list[torch.Tensor] = []
    to_score = protocol.Protocol.to_score

    def keeping(self: protocol.Protocol, video: torch.Tensor, *, reference: bool = False) -> torch.Tensor:
        scored.append(to_score(self, video, reference=reference))
        return scored[-1]

    protocol.Protocol.to_score = keeping  # type: ignore[method-assign]
    try:
        record = evaluate(
            tiny(torch.bfloat16), protocol="wfvae-paper", posterior=posterior, seed=seed, clips=args.clips,
            num_frames=args.frames, size=args.size, device="cpu", metrics=list(METRICS),
        )  # fmt: skip
    finally:
        protocol.Protocol.to_score = to_score  # type: ignore[method-assign]
    names = names_of(args.clips)
    assert len(scored) == 2 * len(names)
    frames = {
        name: torch.cat(scored[2 * i : 2 * i + 2]).mul(255).round().to(torch.uint8) for i, name in enumerate(names)
    }
    return {name: float(record.scores[name].value or 0) for name in METRICS}, frames


def names_of(clips: int) -> list[str]:
    """The files of the first clips of the bundle."""
    from vaebench.video_io import manifest

    return [row.file for row in manifest.read(BUNDLE / "clips.csv")][:clips]


def largest_difference(folder: Path, frames: dict[str, torch.Tensor]) -> int:
    """The largest difference of 8-bit levels between the videos that the scripts wrote and the frames that we scored."""
    import decord

    largest = 0
    for name, pair in frames.items():
        for file, ours in zip((folder / "origin" / name, folder / name), pair, strict=True):
            theirs = torch.from_numpy(decord.VideoReader(str(file))[:].asnumpy()).permute(3, 0, 1, 2)
            largest = max(largest, int((theirs.int() - ours.int()).abs().max()))
    return largest


def row(comparison: str, theirs: dict[str, float], ours: dict[str, float], **more: Any) -> dict[str, Any]:
    for name in METRICS:
        print(f"{comparison:14} {name:8} official {theirs[name]:12.6g}   here {ours[name]:12.6g}   "
              f"difference {ours[name] - theirs[name]:+.2e}", flush=True)  # fmt: skip
    difference = {name: ours[name] - theirs[name] for name in METRICS}
    return {"comparison": comparison, "official": theirs, "here": ours, "difference": difference, **more}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", metavar="PATH")
    for name, default in (("frames", 17), ("size", 128), ("clips", 8), ("seeds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        return worker(args)
    if not args.official:
        parser.error("--official PATH is missing: a clone of github.com/PKU-YuanGroup/WF-VAE")

    from vaebench import machine
    from vaebench.features.i3d_torchscript import Extractor
    from vaebench.features.lpips import LPIPS, SMALLEST
    from vaebench.metrics import i3d_l2, lpips
    from wfvae import checkpoint

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository, clips = folder / "official", folder / "clips"
        archive = subprocess.run(
            ["git", "-C", args.official, "archive", COMMIT], check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(repository, filter="data")
        clips.mkdir()
        for name in names_of(args.clips):
            (clips / name).symlink_to(BUNDLE / name)
        checkpoint.save(tiny(torch.float32).model, repository / "tiny")
        backbone, backbone_from = alexnet(folder)
        network, network_from = i3d(folder, args.frames)
        (repository / I3D_FILE).symlink_to(network)
        lpips.build = lambda device: LPIPS(perceptual(str(backbone), False), SMALLEST["alex"])  # type: ignore[assignment]
        extractor = Extractor(torch.jit.load(str(network)))
        i3d_l2.build = lambda device: i3d_l2.I3DL2(extractor)  # type: ignore[assignment]

        shared = {"alexnet": str(backbone)}
        ours, frames = here(args, "mode", 0)
        theirs, out = official(args, repository, clips, shared, posterior="mode", vae="same", seed=0)
        rows = [row("same VAE", theirs, ours, largest_pixel_difference_levels=largest_difference(out, frames))]
        print(
            f"               largest difference of a scored pixel: {rows[0]['largest_pixel_difference_levels']} levels"
        )
        theirs, out = official(args, repository, clips, shared, posterior="mode", vae="official", seed=0)
        rows.append(row("official VAE", theirs, ours, largest_pixel_difference_levels=largest_difference(out, frames)))
        sides: dict[str, list[dict[str, float]]] = {"official": [], "here": []}
        for seed in range(args.seeds):
            sides["official"].append(
                official(args, repository, clips, shared, posterior="sample", vae="official", seed=seed)[0]
            )
            sides["here"].append(here(args, "sample", seed)[0])
        if args.seeds:
            means = {who: {m: statistics.fmean(one[m] for one in runs) for m in METRICS} for who, runs in sides.items()}
            rows.append(row("sample", means["official"], means["here"], seeds=sides))
    if args.output:
        record = {
            "benchmark": "paper_protocol",
            "setting": {name: getattr(args, name) for name in ("frames", "size", "clips", "seeds", "threads")},
            "vae": "wfvae/tiny",
            "official_commit": COMMIT,
            "weights": {"alexnet": backbone_from, "i3d": network_from},
            "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
            "rows": rows,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
