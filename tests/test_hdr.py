"""HDR is refused by name; 10 bits are reduced to 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.videos import pictures, write, write_yuv
from vaebench import cli
from vaebench.video_io import decode

TRANSFER = {"PQ": 16, "HLG": 18, "BT.709": 1, "BT.2020 10 bits": 14}  # ITU-T H.273, table 3


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_hdr_is_refused_with_its_name_and_a_remedy(tmp_path: Path, transfer: str, codec: str) -> None:
    file = write(tmp_path / "a.mp4", pictures(3), codec, "yuv420p10le", color_trc=TRANSFER[transfer])
    with pytest.raises(
        ValueError, match=rf"a\.mp4: is HDR video \({transfer}\).*tone-map it first.*ffmpeg -i IN -vf zscale"
    ):
        list(decode.read(file, 0, 2))


@pytest.mark.parametrize("transfer", ["BT.709", "BT.2020 10 bits"])
def test_ten_bits_are_reduced_to_eight(tmp_path: Path, transfer: str) -> None:
    """Luma 64 + 876 v / 255 of 10 bits is the grey v; it is found again within one level."""
    for grey in (0, 1, 100, 101, 254, 255):
        code = (round(64 + 876 * grey / 255), 512, 512)
        file = write_yuv(tmp_path / "a.mkv", code, "ffv1", "yuv420p10le", color_trc=TRANSFER[transfer], color_range=1)
        (frame,) = decode.read(file, 0, 1)
        assert np.abs(frame.astype(int) - grey).max() <= 1


def test_a_run_lists_hdr_clips_as_failed_and_measures_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    write(tmp_path / "clips/sdr.mp4", pictures(5), pix_fmt="yuv420p10le")
    write(tmp_path / "clips/hdr.mp4", pictures(5), pix_fmt="yuv420p10le", color_trc=TRANSFER["HLG"])
    words = ["run", "vaes=pool/4x4x4", "data=folder", "root=clips", "num_frames=5", "size=32", "metrics=psnr"]
    assert cli.main(words) == 1
    table, notes = capsys.readouterr()
    assert "1 (1 failed)" in table
    assert "failed: hdr: hdr.mp4: is HDR video (HLG)" in notes
