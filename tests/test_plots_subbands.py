"""The eight sub-bands of a clip as pictures, through the command line: frames saved by `keep`, drawn by `plot --only subbands`."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vaebench import cli, kept_pictures, kept_video, records
from vaebench.latents.subbands import middle_pair
from vaebench.suites.latent import LatentSuite

BRIEF = ["vaes=dct/8", "num_frames=9", "size=32", "noise=", "masks=[]"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "latent", *BRIEF, *words])


def record() -> records.Record:
    (found,) = records.read_all(Path("runs/results"), "latent")
    return found


def shares() -> dict[str, float]:
    """Band -> the percentage that the only picture of sub-bands states."""
    assert cli.main(["plot", "--only", "subbands", "--format", "svg"]) == 0
    (svg,) = (file for file in Path("runs/results/plots").glob("*.svg") if file.stem != f"subbands-{record().setting}")
    texts = re.findall(
        r"([hg]{3}): (?:low-pass|high-pass along [THW, ]+)<|>([0-9.e-]+) % of the energy", svg.read_text()
    )
    names, percents = [name for name, _ in texts if name], [float(percent) for _, percent in texts if percent]
    return dict(zip(names, percents, strict=True))


def haar(frames: np.ndarray) -> np.ndarray:
    """Frames (2, H, W, 3) in -1..1 -> shares of energy (8,), by sums and differences of the cells of 2x2x2 pixels."""
    cells = [frames[t, y::2, x::2] for t, y, x in itertools.product((0, 1), repeat=3)]
    energy = []
    for signs in itertools.product((1, -1), repeat=3):
        weights = [
            np.prod([s for s, bit in zip(signs, bits, strict=True) if bit])
            for bits in itertools.product((0, 1), repeat=3)
        ]
        energy.append(np.square(sum(w * cell for w, cell in zip(weights, cells, strict=True))).mean())
    return np.array(energy) / sum(energy)


def test_the_pictures_of_a_real_clip_state_the_shares_of_its_energy() -> None:
    assert run("clips=2", "keep=bottles_two_hands") == 0
    (file,) = kept_pictures.folder(Path("runs/results"), record()).glob("*.png")
    frames = plt.imread(file).reshape(32, 2, 32, 3).swapaxes(0, 1)
    expected = dict(
        zip(("hhh", "hhg", "hgh", "hgg", "ghh", "ghg", "ggh", "ggg"), 100 * haar(2 * frames - 1), strict=True)
    )
    assert record().extra["saved"] == {"bundle/bottles_two_hands": [3, 4]}
    assert shares() == pytest.approx(expected, abs=0.005)
    assert expected["hhh"] > 90


@pytest.mark.parametrize("band", ["hhh", "hhg", "hgh", "ghh"])
def test_a_pattern_has_all_its_energy_in_its_band(band: str) -> None:
    t, y, x = np.indices((9, 32, 32))
    high = {"hhh": np.ones_like(t), "hhg": x % 2, "hgh": y % 2, "ghh": t % 2}[band]
    kept_video.write(Path("pattern.mkv"), np.repeat(255 * high.astype(np.uint8)[..., None], 3, axis=3), 24.0)
    assert run("data=folder", "root=.", "keep=1") == 0
    assert {name for name, percent in shares().items() if percent == 100} == {band}
    assert sum(shares().values()) == 100


def test_frames_are_added_to_stored_clips_without_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("clips=2") == 0
    before = record()
    monkeypatch.setattr(LatentSuite, "_encode", lambda *_: pytest.fail("the clip was encoded again"))
    assert run("clips=2", "keep=1") == 0
    assert record().scores == before.scores
    assert record().fingerprint == before.fingerprint
    assert len(shares()) == 8


def test_the_frames_of_a_time_step_are_paired_as_the_transform_pairs_them() -> None:
    assert [middle_pair(frames) for frames in (1, 2, 3, 5, 9, 17, 33)] == [
        (0, 0), (0, 0), (1, 2), (1, 2), (3, 4), (7, 8), (15, 16)
    ]  # fmt: skip


def test_what_cannot_be_drawn_is_refused_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keep=worst:1") == 2
    assert "keep=worst:1: the latent suite saves frames of the clip, which no score ranks" in capsys.readouterr().err
    assert run("clips=1", "keep=1") == 0
    (file,) = Path("runs/results/latent").rglob("dct-8.json")
    made = json.loads(file.read_text())
    made["extra"]["saved"]["bundle/bottles_two_hands"] = [3]
    file.write_text(json.dumps(made))
    assert cli.main(["plot", "--only", "subbands"]) == 2
    assert "extra.saved.bundle/bottles_two_hands should have two numbers of frames, got [3]" in capsys.readouterr().err
    made["extra"]["saved"]["bundle/bottles_two_hands"] = [3, 4]
    file.write_text(json.dumps(made))
    next(Path("runs/results/latent").rglob("*.png")).unlink()
    assert cli.main(["plot", "--only", "subbands"]) == 2
    assert "is missing: run this VAE again with keep=N" in capsys.readouterr().err
