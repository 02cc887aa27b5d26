"""The suites latent, relay and tokens from the command line, on one VAE of every kind, and on released weights where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaebench import cli, records
from vaebench.long_video import PROTOCOLS

# optional, next to the checkout
WEIGHTS = Path(__file__).parents[2] / "shared" / "weights"
REAL = ["taesd/flux2"] if (WEIGHTS / "taef2_encoder.pth").is_file() else []
VAES = ["wfvae/tiny", "pool/4x8x8", "dct/8", "wan/tiny", "ltx/tiny", "cogvideox/tiny", "taesd/tiny"]
WITH_POSTERIOR = ("wfvae", "wan", "ltx", "cogvideox")
pytestmark = pytest.mark.usefixtures("elsewhere")


def run(suite: str, *words: str) -> records.Record:
    assert cli.main(["run", "--suite", suite, "fail_fast=true", *words]) == 0
    (found,) = records.read_all(Path("runs/results"), suite)
    assert found.failed == []
    for score in found.scores.values():
        assert score.value is not None or score.note
    return found


def described(name: str, size: int) -> records.Record:
    found = run("latent", f"vaes=[{name}]", "num_frames=9", f"size={size}", "clips=2", "noise=0.1", "masks=0.5")
    for score in ("localcorr", "participation_ratio", "gaussian_mmse", "noise_gain", "psnr", "mask_loss_50"):
        assert found.scores[score].value is not None, score
    assert (found.scores["kl_bits_per_pixel"].value is not None) == name.startswith(WITH_POSTERIOR)
    assert found.scores["effective_rank"].value <= found.vae["latent_channels"] + 1e-6
    return found


def relayed(name: str, size: int) -> records.Record:
    """Three hops of every protocol, in short windows."""
    words = (f"protocols={','.join(PROTOCOLS)}", "window=25", "hops=3", "num_frames=17", f"size={size}", "clips=1")
    found = run("relay", f"vaes=[{name}]", *words)
    assert set(found.extra["curves"]) == set(PROTOCOLS)
    for protocol, curves in found.extra["curves"].items():
        for curve in ("psnr", "ssim", "shift", "delta_e", "high_frequency", "latent_drift"):
            assert np.isfinite(np.array(curves[curve], dtype=float)).all(), (protocol, curve)
            assert len(curves[curve]) == 3
        summaries = [
            found.scores[f"{summary}{part}@{protocol}"].value
            for summary in ("psnr_last", "db_per_hop")
            for part in ("", "_floor", "_excess")
        ]
        assert np.isfinite(summaries).all()
    return found


def counted(name: str) -> None:
    found = run("tokens", f"vaes=[{name}]", "seconds=60")
    assert found.scores["tokens@60 s"].value > 0
    assert found.scores["element_ratio@60 s"].value <= found.scores["element_ratio_limit@60 s"].value


@pytest.mark.parametrize("name", VAES)
def test_every_kind_of_vae_goes_through_the_three_suites(name: str) -> None:
    described(name, 64 if name == "ltx/tiny" else 32)  # latents of 2 x 2 positions or more
    relayed(name, 32)
    counted(name)


@pytest.mark.large
@pytest.mark.parametrize("name", REAL)
def test_released_weights_go_through_the_three_suites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(WEIGHTS))
    assert described(name, 64).scores["psnr"].value > 25
    assert relayed(name, 32).scores["psnr_first@loop"].value > 20
    counted(name)
