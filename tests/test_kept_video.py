"""`keep_video=N` saves every frame that the metrics saw, without loss, and only for the record that measured it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vaebench import cli, kept_video, records
from vaebench.config import RunConfig
from vaebench.data import bundle
from vaebench.metrics.psnr import PSNR

SMALL = ["num_frames=5", "size=32", "metrics=[psnr]", "clips=3"]
SETTING = "bundle-5x32-first3-psnr"
pytestmark = pytest.mark.usefixtures("elsewhere")


def stored(name: str = "pool-4x8x8") -> tuple[records.Record, dict[str, kept_video.Pair]]:
    root = Path("runs/results")
    record = records.read(root / "reconstruction" / SETTING / f"{name}.json")
    return record, kept_video.read_all(root, record)


def test_the_saved_pixels_have_the_score_of_the_record():
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]", "keep_video=2"]) == 0
    record, pairs = stored()
    clips = list(bundle.build(RunConfig(num_frames=5, size=32)))[:2]
    scores = records.read_clips(Path("runs/results"), record)
    assert list(pairs) == [clip.id for clip in clips]
    for clip in clips:
        frames, fps = pairs[clip.id]
        assert np.array_equal(frames[0].transpose(3, 0, 1, 2), clip.load().numpy())
        assert fps == pytest.approx(clip.fps, rel=1e-3)
        videos = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float().div(255)
        assert float(PSNR().measure(videos[:1], videos[1:])) == pytest.approx(scores[clip.id]["psnr"], abs=1e-6)


def test_a_later_request_adds_videos_and_keeps_the_scores():
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]"]) == 0
    before, none = stored()
    assert none == {}
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]", "keep_video=1"]) == 0
    after, pairs = stored()
    assert (len(pairs), after.scores) == (1, before.scores)


def test_videos_of_another_run_are_not_those_of_the_record(tmp_path: Path):
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]", "keep_video=1"]) == 0
    file = tmp_path / "runs" / "results" / "reconstruction" / SETTING / "pool-4x8x8.json"
    record, _ = stored()
    file.write_text(file.read_text().replace(record.fingerprint, "0" * 16))
    assert stored()[1] == {}


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (4, 32, 48)])
def test_any_pixel_survives(shape: tuple[int, ...], tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    kept_video.write(tmp_path / "a.mkv", frames, 29.97, {"title": "猫", "comment": "x"})
    again, fps, comment = kept_video.read(tmp_path / "a.mkv")
    assert np.array_equal(again, frames)
    assert (round(fps, 2), comment) == (29.97, "x")


def test_a_damaged_video_is_named(tmp_path: Path):
    (tmp_path / "a.mkv").write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"a\.mkv is not a video of keep_video: .*; delete it and run the VAE again"):
        kept_video.read(tmp_path / "a.mkv")


def test_a_negative_number_of_clips_is_refused(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]", "keep_video=-1"]) == 2
    assert "keep_video=-1 should be a number of clips, ids of clips, or worst:N" in capsys.readouterr().err
