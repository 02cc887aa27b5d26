"""Videos from folders: the same scores as the run that made them, and each unusable video is named and fails alone."""

from __future__ import annotations

import csv
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebench
from tests.records import cost, quality
from tests.videos import pictures, write
from vaebench import cli, kept_video, protocol, records
from vaebench.plots.reconstruction import read_last
from vaebench.vae import reconstruct
from vaebench.video import to_model, to_stored

FRAMES, SIZE = 5, 32
NAMES = ("one", "sub/two", "three")
METRICS = "metrics=psnr,ssim,flicker"


def lossless(file: Path, frames: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return write(file, frames, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """References, and what dct/4 makes of them, both lossless."""
    monkeypatch.chdir(tmp_path)
    vae = vaebench.load("dct/4")
    for seed, name in enumerate(NAMES):
        frames = pictures(FRAMES, SIZE, SIZE, seed=seed)
        lossless(tmp_path / "clips" / f"{name}.mkv", frames)
        video = to_model(torch.from_numpy(frames).permute(3, 0, 1, 2))[None]
        made = to_stored(reconstruct(vae, video)[0])[0].permute(1, 2, 3, 0).numpy()
        lossless(tmp_path / "made" / f"{name}.mkv", made)
    return Path("clips"), Path("made")


def score(reference: Path, reconstruction: Path, *words: str) -> int:
    return cli.main(["score", "--reference", str(reference), "--reconstruction", str(reconstruction), METRICS, *words])


def only_record() -> records.Record:
    (made,) = records.read_all(Path("runs/results"))
    return made


def test_files_of_a_vae_have_the_scores_of_its_run_and_stand_in_the_same_table(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    shape = [f"num_frames={FRAMES}", f"size={SIZE}"]
    assert cli.main(["run", "vaes=dct/4", "data=folder", f"root={folders[0]}", METRICS, *shape]) == 0
    assert score(*folders, "name=elsewhere", *shape) == 0
    ran, scored = sorted(records.read_all(Path("runs/results")), key=lambda made: made.name)
    assert (ran.name, scored.name) == ("dct/4", "elsewhere")
    assert (ran.setting, ran.data["sha256"]) == (scored.setting, scored.data["sha256"])
    assert {name: s.value for name, s in ran.scores.items()} == {name: s.value for name, s in scored.scores.items()}
    clips = [records.read_clips(Path("runs/results"), made) for made in (ran, scored)]
    assert clips[0] == clips[1]
    capsys.readouterr()
    assert cli.main(["table", "runs/results", "--format", "markdown", "--columns", "psnr"]) == 0
    out = capsys.readouterr().out
    assert out.count("**reconstruction · ") == 1
    assert "elsewhere · files |           — |" in out
    a, b = (records.file_of(Path("runs/results"), made) for made in (ran, scored))
    assert cli.main(["compare", str(a), str(b), "--fail-below", "psnr=0", "--fail-above", "flicker=0"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[0]: line[-1] for line in lines if line and line[-1] == "equal"}.keys() == {"psnr", "ssim", "flicker"}


def test_without_settings_all_frames_are_scored_at_their_own_size(folders: tuple[Path, Path]):
    wide = pictures(7, 24, 40, seed=9)  # another length and size, not square
    for folder, frames in zip(folders, (wide, 255 - wide), strict=True):
        lossless(folder / "wide.mkv", frames)
    assert score(*folders, "keep=wide", "keep_video=wide") == 0
    made = only_record()
    (picture,) = Path("runs/results").rglob("*.png")
    last = read_last(picture, 1, None)  # 24x40: three frames are as wide as five square ones
    assert np.array_equal(np.round(last * 255), [wide[-1], 255 - wide[-1]])
    (saved,) = kept_video.read_all(Path("runs/results"), made).values()
    assert np.array_equal(saved.frames, np.stack([wide, 255 - wide]))
    assert made.setting.endswith("-allxnative-psnr+ssim+flicker")
    clips = records.read_clips(Path("runs/results"), made)
    error = np.square((2.0 * wide - 255) / 255).mean(axis=(1, 2, 3))
    assert clips["wide"]["psnr"] == pytest.approx(float(np.mean(-10 * np.log10(error))), rel=1e-5)
    files = made.extra["scored_from_files"]
    assert (files["codecs"], files["lossless"]) == ({"ffv1": 4}, True)
    assert [files[side]["videos"] for side in ("reference", "reconstruction")] == [4, 4]
    assert len({files[side]["sha256"] for side in ("reference", "reconstruction")}) == 2
    assert made.vae["temporal_compression"] is None
    assert picture.name == "wide.png"


def test_two_versions_of_an_unavailable_metric_have_two_settings(folders: tuple[Path, Path]):
    settings = []
    for constant in (1, 2):
        Path("sides.py").write_text(
            SQUARE.replace("torch.ones(len(reference))", f"{constant} * torch.ones(len(reference))")
        )
        for folder in folders:
            lossless(folder / "wide.mkv", pictures(FRAMES, 48, 64))
        assert score(*folders, "metrics=psnr,./sides.py") == 0
        (made,) = records.read_all(Path("runs/results"))
        assert "sides" in made.absent
        settings.append(made.setting)
        shutil.rmtree("runs")
    assert settings[0] != settings[1]
    assert all(re.search(r"-psnr\+sides-[0-9a-f]{6}$", setting) for setting in settings)


def test_each_unusable_video_fails_alone_and_is_named(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    originals, made = folders
    for name, frames in (("short", 5), ("long", 5), ("small", 5), ("gone", 5), ("broken", 5)):
        lossless(originals / f"{name}.mkv", pictures(frames, SIZE, SIZE))
    lossless(made / "short.mkv", pictures(3, SIZE, SIZE))
    lossless(made / "long.mkv", pictures(8, SIZE, SIZE))
    lossless(made / "small.mkv", pictures(5, 16, 16))
    lossless(made / "extra.mkv", pictures(5, SIZE, SIZE))
    (made / "broken.mkv").write_text("no video")
    assert score(*folders, "--format", "csv") == 1
    captured = capsys.readouterr()
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(captured.out))}
    assert rows["psnr"]["n"] == "3"
    reasons = {failure.case: failure.reason for failure in only_record().failed}
    assert reasons.keys() == {"short", "long", "small", "gone", "broken", "extra"}
    assert (
        reasons["short"] == "short.mkv has 3 frames and its reference 5: num_frames=N scores the first N frames of both"
    )
    assert "long.mkv has 8 frames" in reasons["long"]
    assert reasons["small"] == "small.mkv has frames of 16x16 and its reference 32x32: size=N resizes and crops both"
    assert reasons["gone"] == "no reconstruction: expected a video called gone in made"
    assert "broken.mkv" in reasons["broken"]
    assert reasons["extra"] == "no reference: this name is only in the folder of reconstructions"
    for case in reasons:
        assert f"failed: {case}" in captured.err


def test_a_video_that_is_too_short_has_the_remedy_that_fits(folders: tuple[Path, Path]):
    originals, made = folders
    lossless(originals / "short.mkv", pictures(5, SIZE, SIZE))
    lossless(made / "short.mkv", pictures(3, SIZE, SIZE))
    lossless(originals / "brief.mkv", pictures(2, SIZE, SIZE))
    lossless(made / "brief.mkv", pictures(5, SIZE, SIZE))
    assert score(*folders, "num_frames=5") == 1
    reasons = {failure.case: failure.reason for failure in only_record().failed}
    for case, count in (("short", 3), ("brief", 2)):
        assert reasons[case] == (
            f"{case}.mkv: too short: it has {count} frames, but 5 are needed; lower num_frames, or write it again"
        )


def test_a_video_with_fewer_frames_than_it_announces_is_called_damaged(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("vaebench.video_io.decode.frame_count", lambda _: FRAMES + 1)
    assert score(*folders) == 1
    message = capsys.readouterr().err
    assert f"it has {FRAMES} frames, but {FRAMES + 1} are needed" in message
    assert "it is damaged: write it again, or score the first N frames of both videos with num_frames=N" in message


def test_videos_that_all_fail_are_listed_with_exit_code_1(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    lossless(folders[1] / "extra.mkv", pictures(FRAMES, SIZE, SIZE))
    assert score(*folders, "num_frames=5000") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    too_short = f"too short: it has {FRAMES} frames, but 5000 are needed; lower num_frames, or write it again [made]"
    assert sorted(captured.err.splitlines()) == sorted(
        [
            *(f"failed: {name}: {name}.mkv: {too_short}" for name in NAMES),
            "failed: extra (extra.mkv): no reference: this name is only in the folder of reconstructions [made]",
        ]
    )
    assert not list(Path("runs").rglob("*.json"))


def test_whole_videos_stand_in_figures_and_report_beside_measured_vaes(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    assert score(*folders) == 0
    results = ["--results", "runs/results"]
    assert cli.main(["plot", *results, "--format", "png"]) == 0
    captured = capsys.readouterr()
    assert "per_clip-psnr-" in captured.out
    assert "bubbles" not in captured.err  # they have no cost that could be measured
    records.write(quality("toy/a"), Path("runs/results"), {})
    records.write(cost("toy/a", ("float32", 33, 256)), Path("runs/results"), {})
    for words in (["plot", "--only", "bubbles", "--format", "png"], ["report"]):
        assert cli.main([*words, *results]) == 0
        assert "bubbles:" not in capsys.readouterr().err


def test_a_run_cannot_repeat_a_record_of_whole_videos(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    assert score(*folders, "size=32") == 0
    file = str(records.file_of(Path("runs/results"), only_record()))
    capsys.readouterr()
    assert cli.main(["run", "--config", file]) == 2
    said = (
        "this record was scored from files: repeat it with `vaebench score`; to compare it with a VAE, score the videos again "
        "with num_frames=N\n"
    )
    assert capsys.readouterr().err == f"vaebench: {file}: {said}"
    assert cli.main(["run", "--config", file, "vaes=dct/4", f"num_frames={FRAMES}"]) == 0


def test_a_protocol_changes_the_scores_and_the_setting(folders: tuple[Path, Path]):
    assert score(*folders) == 0
    plain = only_record()
    assert score(*folders, "protocol=wfvae-paper") == 0
    (coded,) = (made for made in records.read_all(Path("runs/results")) if "wfvae-paper" in made.setting)
    assert coded.scores["psnr"].value != pytest.approx(
        plain.scores["psnr"].value, abs=0.01
    )  # both sides go through mp4v


def test_wfvae_paper_rounds_the_reference_as_its_run_does(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    """Files that hold the pixels of a run before its codec have the scores of this run, whose reference is rounded to bfloat16."""
    paper = protocol.load("wfvae-paper")
    original = torch.from_numpy(pictures(FRAMES, SIZE, SIZE)).permute(3, 0, 1, 2)[None]
    video = paper.to_model(original)
    stored = to_stored(replace(paper, codec="none").to_score(video).mul(2).sub(1))
    assert not torch.equal(stored, original)  # bfloat16 and truncation change pixels
    lossless(Path("rounded/one.mkv"), stored[0].permute(1, 2, 3, 0).numpy())
    assert score(folders[0], Path("rounded"), "protocol=wfvae-paper") == 1  # two videos are missing
    assert only_record().scores["psnr"].value == pytest.approx(58.92, abs=0.01)  # equal pixels
    assert (
        "rounded: only its reference is rounded to bfloat16; the files are scored as they are"
        in capsys.readouterr().err
    )


SQUARE = """
import torch
from vaebench.metric import Metric


class Sides(Metric):
    square = True

    def measure(self, reference, reconstruction):
        return torch.ones(len(reference))

    def reduce(self, statistics):
        return float(statistics.mean())


def build(device):
    return Sides()
"""


def test_a_metric_of_square_frames_is_absent_for_other_frames(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    Path("sides.py").write_text(SQUARE)
    assert score(*folders, "metrics=psnr,./sides.py") == 0
    assert only_record().scores["sides"].value == 1
    shutil.rmtree("runs")
    for folder in folders:
        lossless(folder / "wide.mkv", pictures(FRAMES, 48, 64))
    assert score(*folders, "metrics=psnr,./sides.py") == 0
    made = only_record()
    assert made.absent == {"sides": "needs square frames, these have 48x64; give one side, such as size=48"}
    assert made.scores.keys() == {"psnr"}
    assert made.scores["psnr"].n == 4
    shutil.rmtree("runs")
    assert score(*folders, "metrics=psnr,./sides.py", "size=16") == 0
    assert only_record().scores["sides"].n == 4


@pytest.mark.parametrize("name", ["default", "default-lanczos", "default-bilinear", "vidtok"])
def test_both_folders_are_resized_as_the_protocol_says(name: str, folders: tuple[Path, Path]):
    shutil.copytree(folders[0], "copies")
    assert score(folders[0], Path("copies"), "num_frames=2", "size=20", f"protocol={name}") == 0
    made = only_record()
    assert made.scores["psnr"].value == pytest.approx(58.92, abs=0.01)  # equal pixels
    assert made.setting.endswith(f"-2x20{'' if name == 'default' else f'-{name}'}-psnr+ssim+flicker")


def test_a_lossy_codec_is_named(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for seed, name in enumerate(NAMES):
        (tmp_path / "h264" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "h264" / f"{name}.mp4", pictures(FRAMES, SIZE, SIZE, seed=seed))
    assert score(folders[0], Path("h264")) == 0
    assert "h264: scored from files (3 h264); a lossy codec is part of the score" in capsys.readouterr().err


def test_another_folder_of_the_same_name_does_not_replace_a_record(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert score(*folders, "name=x") == 0
    assert score(*folders, "name=x") == 0
    shutil.copy(folders[0] / "one.mkv", folders[1] / "one.mkv")
    scored: list[object] = []
    monkeypatch.setattr("vaebench.evaluation.run", lambda *given: scored.append(given))
    assert score(*folders, "name=x") == 2
    assert not scored  # it is refused before the videos are scored
    assert "is a different result: its vae.weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "made"], "--reference nowhere: no such folder"),
        (["clips", "empty"], "--reconstruction empty: no videos"),
        (
            ["clips", "others"],
            "no video of others has the name of a video of clips: these have x and one, sub/two, three",
        ),
        (["clips", "made", "size=0"], "size='0' should be a side such as 256"),
        (["clips", "made", "protocol=vidtuk"], "no protocol 'vidtuk'"),
        (["clips", "made", "name=a/b"], "name=a/b should be a name without /"),
        (["clips", "made", "posterior=mode"], "no setting 'posterior'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], said: str, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    Path("empty").mkdir()
    lossless(Path("others/x.mkv"), pictures(2, 16, 16))
    capsys.readouterr()
    assert score(Path(words[0]), Path(words[1]), *words[2:]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert not list(Path("runs").rglob("*.json"))


WINDOWS = """
import torch
from vaebench.metric import Metric


class Windows(Metric):
    per_clip = False

    def measure(self, reference, reconstruction):
        return reconstruction.mean(dim=(1, 3, 4))[:, : reference.shape[2] // 2 * 2].reshape(len(reference), -1, 2)

    def reduce(self, statistics):
        return float(statistics.mean())


def build(device):
    return Windows()
"""


def test_a_metric_of_sets_is_undefined_for_clips_of_different_lengths_and_the_others_have_scores(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    Path("windows.py").write_text(WINDOWS)
    assert score(*folders, "metrics=psnr,./windows.py") == 0  # all clips have 5 frames
    assert only_record().scores["windows"].status == "ok"
    shutil.rmtree("runs")
    for folder in folders:
        lossless(folder / "long.mkv", pictures(9, SIZE, SIZE))
    capsys.readouterr()
    assert score(*folders, "metrics=psnr,./windows.py") == 0
    assert "windows: the clips have different lengths: set num_frames=N" in capsys.readouterr().err
    lost = only_record().scores["windows"]
    assert (lost.value, lost.status, lost.n) == (None, "undefined", 4)
    assert only_record().scores["psnr"].n == 4
    assert score(*folders, "metrics=psnr,./windows.py", f"num_frames={FRAMES}") == 0  # the remedy
    (equal,) = (made for made in records.read_all(Path("runs/results")) if f"-{FRAMES}x" in made.setting)
    assert equal.scores["windows"].status == "ok"


def test_fail_fast_shows_the_traceback(folders: tuple[Path, Path]):
    lossless(folders[1] / "one.mkv", pictures(FRAMES + 1, SIZE, SIZE))
    assert score(*folders) == 1
    assert score(*folders, "fail_fast=false") == 1
    with pytest.raises(ValueError, match=f"{FRAMES + 1} frames and its reference {FRAMES}"):
        score(*folders, "fail_fast=true")
