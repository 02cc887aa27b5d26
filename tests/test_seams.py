"""Frames that the blockwise suite saves, the figure of seams, and the note on modes with more latents."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebench
from tests.sources import build
from vaebench import cli, kept_pictures, records, video
from vaebench.inference.modes import IndependentChunks
from vaebench.plots.relay import read_sheet
from vaebench.vae import reconstruct

RUN = ["run", "--suite", "blockwise", "vaes=wfvae/tiny", "num_frames=13", "size=32", "clips=2", "lengths=5,13",
       "independent=5", "metrics=psnr"]  # fmt: skip
MODES = ["whole", "streamed", "native", "independent-5"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run without `keep`, repeated with it."""
    folder = tmp_path_factory.mktemp("seams")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(RUN) == 0
        assert not list(folder.rglob("*.png"))
        assert cli.main([*RUN, "keep=1"]) == 0
    return folder / "runs/results"


@pytest.fixture
def record(results: Path) -> records.Record:
    (record,) = records.read_all(results, "blockwise")
    return record


@torch.inference_mode()
def test_the_saved_frame_is_that_with_the_largest_difference_in_every_mode(results: Path, record: records.Record):
    clip = next(iter(build("bundle", num_frames=13, size=32)))
    reference = video.to_model(clip.load()[None])
    vae = vaebench.load("wfvae/tiny")
    whole = video.to_score(reconstruct(vae, reference)[0])
    chunked = video.to_score(IndependentChunks(vae, 5).reconstruct(reference)[0])
    index = int((whole - chunked).square().mean(dim=(0, 1, 3, 4)).argmax())
    assert record.extra["saved"] == {"modes": MODES, "frame": {f"{clip.id}@13": index}}
    (file,) = kept_pictures.folder(results, record).iterdir()  # of one clip, at its full length
    real, decoded = read_sheet(file, len(MODES))
    for name, got, expected in (("real", real[0], video.to_score(reference)), ("whole", decoded[0], whole),
                                ("independent", decoded[3], chunked)):  # fmt: skip
        frame = expected[0, :, index].permute(1, 2, 0).numpy()
        assert np.abs(got - frame).max() < 1.5 / 255, name  # a rounding may differ where inference has another batch
        assert np.abs(got - frame).mean() < 0.01 / 255, name
    assert np.abs(decoded[3] - decoded[0]).max() > 5 / 255  # so equal frames would fail


def test_the_figure_states_modes_frame_and_differences(
    results: Path, record: records.Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plot = ["plot", "--results", str(results), "--only", "seams", "--format", "svg", "--out", str(tmp_path)]
    assert cli.main(plot) == 0
    (file,) = map(Path, capsys.readouterr().out.split())
    words = re.findall(r">([^<>\n]+)</text>", file.read_text())
    ((case, index),) = record.extra["saved"]["frame"].items()
    assert words[-1].endswith(f"{case.partition('@')[0]}, frame {index} (first: 0) of 13")
    assert [word.partition(",")[0] for word in words if word.endswith(" dB")] == MODES
    decoded = read_sheet(next(kept_pictures.folder(results, record).iterdir()), len(MODES))[1]
    most = [round(float(np.abs(frame - decoded[0]).max()) * 255) for frame in decoded[1:]]
    assert [word for word in words if "at most" in word] == [
        f"difference to whole x 8, at most {levels}/255" for levels in most
    ]


def test_records_without_saved_frames_have_no_figure(
    results: Path, record: records.Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plot = ["plot", "--results", str(tmp_path), "--only", "seams", "--out", str(tmp_path / "plots")]
    records.write(record, tmp_path, {})
    assert cli.main(plot) == 2
    assert "is missing: run this VAE again with keep=N" in capsys.readouterr().err
    record.extra["saved"]["modes"][0] = "streamed"
    records.write(record, tmp_path, {})
    assert cli.main(plot) == 2
    assert "extra.saved.modes should start with 'whole'" in capsys.readouterr().err
    del record.extra["saved"]
    records.write(record, tmp_path, {})
    assert cli.main(plot) == 2
    assert "keep=N" in capsys.readouterr().err


def test_a_mode_with_more_latents_than_whole_inference_has_a_note(record: records.Record):
    # 13 frames are 4 latent frames; 5 + 5 + 3 frames are 2 + 2 + 2, the last chunk padded
    note = "independent-5 has 6 latent frames instead of 4 in whole inference, so its compression differs"
    assert record.scores["psnr@independent-5"].note == note
    assert not record.scores["psnr@streamed"].note
