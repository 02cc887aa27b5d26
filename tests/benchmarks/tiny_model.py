"""The built-in model against fixed transforms with as many latent values, on clips that were not trained on.

    python tests/benchmarks/tiny_model.py --clips DIR [--weights wfvae/weights/tiny.safetensors] [--frames 33] [--size 256]
        [--threads 1] [--output results/training/tiny-eval.json] [--strips results/training/tiny-strips.jpg]

DIR holds videos (../shared/clips/eval).  Every clip is its first `frames` frames, short side resized to `size`, centre-cropped.
The transforms work on blocks of 4 frames x 8 x 8 pixels and keep 8 of their 768 values; PSNR and SSIM are the benchmark's modules.

    dct     the first 8 coefficients of `adapters.dct`, as dct/4 and dct/16 keep 4 and 16
    haar    the same frequencies of a Haar transform: two opponent colour means, and of luma the mean, the halves of each axis and
            the quarters
    pool    means of 4 x 4 x 4 pixels: 12 values per block, half as many again (4 x 8 x 8 has 3)

The model is also run in independent chunks of 17 frames and streamed in pieces, and PSNR is listed by frame.  The first frame of
each chunk has a latent of its own, so chunks have more latents; `whole_minus_chunks_other_frames_dB` leaves those frames out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import wfvae
from adapters.dct import basis
from vaebench import machine, plugins
from vaebench.config import RunConfig
from vaebench.video import to_model, to_score
from wfvae import WFVAEConfig

BLOCK = (4, 8, 8)
CHUNK = 17
MODEL, CHUNKED = "wfvae/tiny", f"wfvae/tiny in independent chunks of {CHUNK}"


def haar_basis() -> Tensor:
    """(8, 3, 4, 8, 8), orthonormal."""
    colours = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]), dim=1)

    def half(size: int) -> Tensor:
        return torch.cat([torch.ones(size // 2), -torch.ones(size // 2)])

    t, h, w = half(4).view(4, 1, 1), half(8).view(1, 8, 1), half(8).view(1, 1, 8)
    flat = torch.ones(4, 8, 8)
    patterns = [flat, flat * w, flat * h, flat * t, flat * h * w, flat * h * t]
    rows = [colours[0].view(3, 1, 1, 1) * p for p in patterns] + [c.view(3, 1, 1, 1) * flat for c in colours[1:]]
    return torch.stack([row / row.norm() for row in rows])


def strip(reference: Tensor, reconstruction: Tensor, count: int) -> Tensor:
    """(1, 3, T, H, W) in 0..1, twice -> (3, 2H, count * W): frames spread over the clip, references above."""
    frames = torch.linspace(0, reference.shape[2] - 1, count).round().long()
    rows = [video[0, :, frames].permute(0, 2, 1, 3).flatten(2) for video in (reference, reconstruction)]
    return torch.cat(rows, dim=1)


def transform(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """The orthogonal projection onto `rows` (n, 3, 4, 8, 8), block by block; the last frame is repeated to fill a block."""

    def project(video: Tensor) -> Tensor:
        frames = video.shape[2]
        filled = torch.cat([video, video[:, :, -1:].expand(-1, -1, -frames % 4, -1, -1)], dim=2)
        return F.conv_transpose3d(F.conv3d(filled, rows, stride=BLOCK), rows, stride=BLOCK)[:, :, :frames]

    return project


def pool(video: Tensor) -> Tensor:
    frames = video.shape[2]
    filled = torch.cat([video, video[:, :, -1:].expand(-1, -1, -frames % 4, -1, -1)], dim=2)
    means = F.avg_pool3d(filled, 4)
    return means.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)[:, :, :frames]


def chunks(codec: Callable[[Tensor], Tensor], frames: int = CHUNK) -> Callable[[Tensor], Tensor]:
    """`codec` on independent chunks of `frames` frames; the last frame is repeated to fill the last chunk."""

    def run(video: Tensor) -> Tensor:
        parts = []
        for part in video.split(frames, dim=2):
            padding = part[:, :, -1:].expand(-1, -1, frames - part.shape[2], -1, -1)
            parts.append(codec(torch.cat([part, padding], dim=2))[:, :, : part.shape[2]])
        return torch.cat(parts, dim=2)

    return run


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", required=True)
    parser.add_argument("--weights", type=Path, default=Path("wfvae/weights/tiny.safetensors"))
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--strips", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = WFVAEConfig.from_official(json.loads(args.weights.with_suffix(".json").read_text()))
    model = wfvae.load(args.weights, config)

    def whole(video: Tensor) -> Tensor:
        return model.decode(model.encode(video).mode())

    codecs = {
        MODEL: whole,
        CHUNKED: chunks(whole),
        "dct": transform(basis(8).float()),
        "haar": transform(haar_basis()),
        "pool 4x4x4 (12 values)": pool,
    }
    metrics = {name: plugins.find("metrics", name).build("cpu") for name in ("psnr", "ssim")}
    source = plugins.find("data", "folder").build(
        RunConfig(data="folder", root=args.clips, num_frames=args.frames, size=args.size)
    )
    clips: dict[str, dict[str, dict[str, float]]] = {}
    strips, streamed_difference = [], 0.0
    curves: dict[str, list[Tensor]] = {MODEL: [], CHUNKED: []}
    for clip in source:
        video = to_model(clip.load())[None]
        reference = to_score(video)
        clips[clip.id] = {}
        for name, codec in codecs.items():
            found = to_score(codec(video))
            clips[clip.id][name] = {m: float(metric.measure(reference, found)) for m, metric in metrics.items()}
            if name in curves:
                curves[name].append(metrics["psnr"].by_frame(reference, found)[0])
            if name == MODEL:
                streamed = model.decode_long(model.encode_long(video).mode())
                streamed_difference = max(streamed_difference, float((streamed - codec(video)).abs().max()))
                if len(clips) % 6 == 1:
                    strips.append(strip(reference, found, 3))
        print(clip.id, {name: round(scores["psnr"], 2) for name, scores in clips[clip.id].items()}, flush=True)
    mean = {name: {m: sum(clip[name][m] for clip in clips.values()) / len(clips) for m in metrics} for name in codecs}
    wins = sum(clip[MODEL]["psnr"] > clip["dct"]["psnr"] for clip in clips.values())
    curve, chunk_curve = (torch.stack(curves[name]).mean(0) for name in (MODEL, CHUNKED))
    others = torch.arange(args.frames) % CHUNK != 0
    record = {
        "what": "8 latent values for each 4 x 8 x 8 block of pixels, posterior's mode, 8-bit grid",
        "frames": args.frames,
        "size": args.size,
        "clips": len(clips),
        "mean": mean,
        "gain_over_dct_dB": mean[MODEL]["psnr"] - mean["dct"]["psnr"],
        "clips_better_than_dct": wins,
        "psnr_by_frame": curve.tolist(),
        "chunks_psnr_by_frame": chunk_curve.tolist(),
        "frame_8_minus_last_dB": float(curve[8] - curve[-1]),
        "whole_minus_chunks_dB": mean[MODEL]["psnr"] - mean[CHUNKED]["psnr"],
        "whole_minus_chunks_other_frames_dB": float((curve - chunk_curve)[others].mean()),
        "largest_difference_streamed": streamed_difference,
        "per_clip": clips,
        "machine": dataclasses.asdict(machine.describe(torch.device("cpu"))),
    }
    print(json.dumps({key: value for key, value in record.items() if key not in ("per_clip", "machine")}, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(record, indent=1) + "\n")
    if args.strips:
        args.strips.parent.mkdir(parents=True, exist_ok=True)
        save_image(torch.cat(strips, dim=1), args.strips)


if __name__ == "__main__":
    main()
