"""The WF-VAE that ships with the package."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch

import adapters
from vaebench import plugins
from vaebench.config import RunConfig
from vaebench.training.recipes import RECIPES
from vaebench.training.run import parse
from vaebench.video import to_model, to_score
from wfvae import WFVAEConfig, load


def test_the_built_in_model_is_small_and_better_than_half_as_many_dct_values() -> None:
    weights = RECIPES.parent / "weights" / "tiny.safetensors"
    assert weights.stat().st_size < 12 << 20
    model = load(weights, WFVAEConfig.from_official(json.loads(weights.with_suffix(".json").read_text())))
    assert model.config == parse("tiny", []).model
    dct, psnr = adapters.load("dct/4"), plugins.find("metrics", "psnr").build("cpu")
    scores = []
    for clip in plugins.find("data", "bundle").build(RunConfig(num_frames=9, size=64)):
        video = to_model(clip.load())[None]
        with torch.no_grad():
            found = model.decode(model.encode(video).mode())
        padded = torch.cat([video, video[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
        floor = dct.decode(dct.encode(padded).mode())[:, :, :9]
        scores.append([psnr.measure(to_score(video), to_score(v)).item() for v in (found, floor)])
    ours, theirs = torch.tensor(scores).mean(0)
    assert ours > theirs + 1


def test_the_built_in_model_was_trained_on_no_scene_of_the_bundle_and_validated_on_none_of_its_own() -> None:
    trained, judged = (_scenes(RECIPES / name) for name in ("tiny.csv", "tiny-validation.csv"))
    assert len(trained) == 44
    assert not trained & judged
    # the scenes of the built-in and evaluation clips, as the sample collection names them
    assert not trained & {"intel-asl-room", "mdn-wooden-table", "tears-of-steel:hangar", "mdn:flower"}


def _scenes(manifest: Path) -> set[str]:
    return {row["label"] for row in csv.DictReader(manifest.read_text().splitlines())}
