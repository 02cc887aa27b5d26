"""Video codecs as rows beside VAEs: their bits, their colours, and the quality of a VAE in terms of a codec."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch

import adapters
import vaebench
from adapters import _codec
from vaebench import cli, records, yardstick, yuv
from vaebench.config import RunConfig
from vaebench.data import bundle
from vaebench.vae import CodedVAE, reconstruct
from vaebench.video import to_model, to_score
from vaebench.yardstick import Point

KINDS = list(_codec.ENCODERS)
SMALL = ["clips=1", "num_frames=9", "size=32", "metrics=psnr"]


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """float32 (1, 3, 9, 64, 64) in -1..1: a clip of the bundle."""
    source = bundle.build(RunConfig(num_frames=9, size=64))
    return to_model(next(iter(source)).load())[None]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (to_score(a) - to_score(b)).square().mean().log10())


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [  # the colour bars of BT.709 in limited range, 8 bits
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((255, 0, 0), (63, 102, 240)),
        ((0, 255, 0), (173, 42, 26)),
        ((0, 0, 255), (32, 240, 118)),
    ],
)
def test_colours_are_those_of_bt_709(rgb: tuple[int, ...], expected: tuple[int, ...]) -> None:
    frame = to_model(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 4, 6))[:, 0]
    luma, chroma = yuv.to_yuv(frame)
    assert (luma.shape, chroma.shape) == ((4, 6), (2, 2, 3))
    assert (int(luma[0, 0]), int(chroma[0, 0, 0]), int(chroma[1, 0, 0])) == expected
    assert (yuv.to_rgb(luma, chroma) - frame).abs().max() < 2 / 127.5, "two levels: one of 8-bit luma, one of chroma"


def test_colours_agree_with_ffmpeg(clip: torch.Tensor) -> None:
    """swscale rounds otherwise, by one level at most; a wrong matrix or range is off by ten."""
    frame = clip[0, :, 0]
    stored = ((frame + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    picture = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(
        format="yuv444p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="BILINEAR"
    )
    theirs = torch.from_numpy(picture.to_ndarray())
    luma, chroma = yuv.to_yuv(frame)
    assert (luma.int() - theirs[0].int()).abs().max() <= 2
    means = torch.nn.functional.avg_pool2d(theirs[1:].double(), 2)
    assert (chroma.double() - means).abs().max() <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_counted_bytes_are_all_that_a_decoder_needs(kind: str, clip: torch.Tensor) -> None:
    """FFmpeg plays them as a file of their own, without container, and gives the frames of the reconstruction."""
    vae = adapters.load(f"codec/{kind}-30")
    assert isinstance(vae, CodedVAE)
    reconstruction, latent = reconstruct(vae, clip)
    file = b"".join(_codec._unpack(latent[0]))
    assert vae.bits(latent).tolist() == [8 * len(file)]
    assert b"http" not in file, "the encoder's text about itself"
    form = {"x264": "h264", "x265": "hevc", "av1": "obu"}[kind]
    with av.open(io.BytesIO(file), format=form) as container:
        frames = [yuv.to_rgb(*_codec._planes(frame.to_ndarray())) for frame in container.decode(video=0)]
    assert torch.equal(torch.stack(frames, dim=1)[None], reconstruction)
    assert psnr(clip, reconstruction) > 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_crf_has_fewer_bits_and_less_quality(kind: str, clip: torch.Tensor) -> None:
    rows = []
    for crf in (15, 30, 45):
        vae = adapters.load(f"codec/{kind}-{crf}")
        reconstruction, latent = reconstruct(vae, clip)
        rows.append((int(vae.bits(latent)), psnr(clip, reconstruction)))
    assert rows == sorted(rows, reverse=True)
    assert rows[0][1] > rows[2][1] + 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_coded_alone_as_in_a_batch_and_at_any_size(kind: str, clip: torch.Tensor) -> None:
    vae = adapters.load(f"codec/{kind}-30")
    short = clip[:, :, :3]
    pair = torch.cat([short, -short])
    latent = vae.encode(pair).mode()
    assert torch.equal(latent[1:], vae.encode(-short).mode())
    assert vae.bits(latent)[1] == vae.bits(latent[1:])
    odd = short[..., :-3, :-5]
    assert reconstruct(vae, odd)[0].shape == odd.shape


def test_names_sizes_and_streams_that_cannot_be_are_refused() -> None:
    for name in ("codec/x265", "codec/x266-27", "codec/x265-52", "codec/x265-027", "codec/av1-64"):
        with pytest.raises(ValueError, match=r"codec/x265-CRF \(0 to 51\).*such as codec/x265-27"):
            adapters.resolve(name)
    with pytest.raises(ValueError, match="reads no weights: remove weights=here"):
        adapters.resolve("codec/x265-27", weights="here")
    with pytest.raises(ValueError, match="libx265 needs frames of 16x16 or more, got 8x8"):
        adapters.load("codec/x265-27").encode(torch.zeros(1, 3, 1, 8, 8))
    with pytest.raises(ValueError, match="more than the 12 bytes of the clip itself"):
        adapters.load("codec/x264-0").encode(torch.zeros(1, 3, 1, 2, 2))


def test_every_encoder_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert f"codecs: {', '.join(f'codec/{kind}-CRF' for kind in KINDS)}\n" in capsys.readouterr().out


def test_a_damaged_stream_is_an_error(clip: torch.Tensor) -> None:
    vae = adapters.load("codec/x264-30")
    latent = vae.encode(clip).mode()
    missing = latent.clone().flatten()
    missing[0] = 4  # packets of 9
    with pytest.raises((ValueError, av.FFmpegError)):
        vae.decode(missing.view(latent.shape))


def test_an_encoder_that_pyav_lacks_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {**_codec.ENCODERS, "x264": replace(_codec.ENCODERS["x264"], name="libx999")}
    monkeypatch.setattr(_codec, "ENCODERS", lacking)
    assert (
        "was built without libx999: pip install --force-reinstall av" in adapters.resolve("codec/x264-27").unavailable
    )
    assert adapters.resolve("codec/x265-27").unavailable == ""


@pytest.mark.parametrize("size", [32, 96])
def test_x264_gives_the_same_bits_in_every_call(size: int) -> None:
    """Its default gave 8 different sizes in 30 calls at 96x96."""
    clip = to_model(next(iter(bundle.build(RunConfig(num_frames=9, size=size)))).load())[None]
    vae = adapters.load("codec/x264-20")
    assert len({int(vae.bits(vae.encode(clip).mode())) for _ in range(20)}) == 1


def test_a_run_has_codecs_and_vaes_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "vaes=codec/x264-20,codec/x264-50,pool/4x4x4,identity/pixels", "keep=worst:1", *SMALL]) == 0
    table, notes = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in table.splitlines()[3:]}
    record = json.loads(next(tmp_path.glob("runs/results/reconstruction/*/codec-x264-20.json")).read_text())
    rate = record["scores"]["bits_per_pixel"]["value"]
    clip = next(iter(bundle.build(RunConfig(num_frames=9, size=32)))).load()
    vae = adapters.load("codec/x264-20")
    assert rate == int(vae.bits(vae.encode(to_model(clip)[None]).mode())) / (9 * 32 * 32)
    assert rows["codec/x264-20"][1:4] == ["—", "—", "—"], "a codec has no compression ratio and no channels"
    assert rows["codec/x264-20"][5] == f"{rate:.4f}" if rate < 1 else f"{rate:.3f}"
    assert rows["pool/4x4x4"][5] == "—"
    assert "pool/4x4x4: psnr" in notes
    assert "that of x264 at CRF" in notes
    assert "identity/pixels: psnr" not in notes, "the video itself is no VAE"
    capsys.readouterr()
    assert cli.main(["codecs"]) == 0
    assert capsys.readouterr().out.strip() in notes
    assert cli.main(["plot", "--only", "codecs", "--format", "svg"]) == 0
    (figure,) = tmp_path.glob("runs/results/plots/codecs-psnr-*.svg")
    text = figure.read_text()
    for words in ("x264, CRF 20 to 50", "pool/4x4x4", "VAE, 16 bits per latent", "not entropy-coded"):
        assert words in text
    assert "identity" not in text
    assert cli.main(["report"]) == 0
    assert "codec/x264-20" in (tmp_path / "runs/results/report.html").read_text()
    assert vaebench.results("runs/results").query("vae == 'codec/x264-20'").latent_channels.isna().all()


def test_only_reconstruction_takes_codecs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for suite in ("blockwise", "efficiency", "diffusability"):
        assert cli.main(["run", "--suite", suite, "vaes=codec/x264-20"]) == 2
        assert f"a video codec has no latents or network for the {suite} suite" in capsys.readouterr().err
    assert cli.main(["check", "codec/x264-20"]) == 2
    assert "is a video codec" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a video codec has no latents or network for the blockwise suite"):
        vaebench.evaluate(adapters.load("codec/x264-20"), suite="blockwise", clips=1, num_frames=9, size=32)
    assert cli.main(["codecs", str(tmp_path)]) == 2
    assert "can be compared with a codec: run `vaebench run vaes=" in capsys.readouterr().err


CURVE = [Point(20, 0.4, 40.0), Point(30, 0.1, 34.0), Point(50, 0.01, 24.0)]


def test_between_two_crfs_the_crf_and_the_logarithm_of_the_bits_are_linear() -> None:
    crf, bits, _ = yardstick.equivalent(CURVE, 37.0) or (0, 0, 0)
    assert (crf, bits) == pytest.approx((25, 0.2))  # half of the way: the geometric mean of 0.4 and 0.1
    crf, bits, _ = yardstick.equivalent(CURVE, 24.0) or (0, 0, 0)
    assert (crf, bits) == pytest.approx((50, 0.01))


def test_nothing_is_extrapolated_and_a_curve_that_turns_is_refused() -> None:
    assert yardstick.equivalent(CURVE, 40.01) is None
    assert yardstick.equivalent(CURVE, 23.99) is None
    with pytest.raises(ValueError, match="does not change monotonically"):
        yardstick.equivalent([*CURVE, Point(51, 0.009, 25.0)], 30.0)


def test_statements_name_the_measured_range_and_compare_equal_clips_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ["psnr", "flicker"]
    run = [
        vaebench.evaluate(adapters.load(name), clips=1, num_frames=9, size=32, metrics=metrics)
        for name in ("codec/x265-10", "codec/x265-20", "pool/4x8x8")
    ]
    lines = yardstick.statements(run)
    psnr, flicker = (f"{run[1].scores[name].value:.{digits}f}" for name, digits in (("psnr", 2), ("flicker", 4)))
    assert [line.partition(" is ")[2] for line in lines] == [
        f"worse than x265 at CRF 20 ({psnr} dB), the worst measured",
        f"worse than x265 at CRF 20 ({flicker} levels), the worst measured",
    ]
    assert yardstick.statements(run, ["psnr"]) == lines[:1]
    for each in run:
        records.write(each, tmp_path, {})
    capsys.readouterr()
    assert cli.main(["table", str(tmp_path), "--columns", "psnr"]) == 0
    assert capsys.readouterr().err.splitlines() == lines[:1]
    other = replace(run[2], data={**run[2].data, "sha256": "other clips"})
    assert yardstick.statements([*run[:2], other]) == []
    assert yardstick.statements([run[0], run[2]]) == [], "a curve needs two points"
