"""The optional metrics against known answers: libvmaf, the DISTS package, moving pictures, and rendered text."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import adapters
from vaebench import cli, weights
from vaebench.config import RunConfig
from vaebench.data import bundle
from vaebench.features import dists as network_of_dists
from vaebench.features.frechet import frechet
from vaebench.metrics import dists, flicker_compensated, fvd_videomae, text, vmaf
from vaebench.metrics.flicker import Flicker
from vaebench.metrics.text import Reader, TextFidelity
from vaebench.vae import reconstruct
from vaebench.video import to_model, to_score
from vaebench.weights import Unavailable

# vae, size, clip of the bundle -> mean VMAF of 9 frames by libvmaf (commit 86da14d, integer features, model vmaf_v0.6.1) in
# FFmpeg 9.0.2: -s SxS -pix_fmt yuv420p -i reconstruction.yuv ... -i reference.yuv -lavfi libvmaf=model=version=vmaf_v0.6.1,
# on files with the luma of `vaebench.yuv`; -> and the largest difference of a clip that float32 arithmetic may have
LIBVMAF = {
    ("dct/8", 256, 0): (54.369127, 0.05),
    ("dct/8", 256, 3): (63.316560, 0.05),
    ("pool/4x8x8", 256, 3): (20.438021, 0.05),
    ("dct/16", 64, 0): (70.941364, 0.5),
    ("dct/16", 64, 3): (62.244786, 0.5),
}


def scored(vae: str, size: int, number: int, frames: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip of the bundle and its reconstruction, as metrics see them."""
    clip = list(bundle.build(RunConfig(num_frames=frames, size=size)))[number]
    video = to_model(clip.load())[None]
    return to_score(video), to_score(reconstruct(adapters.load(vae), video)[0])


@pytest.mark.parametrize(("vae", "size", "number"), LIBVMAF)
def test_vmaf_is_that_of_libvmaf(vae: str, size: int, number: int) -> None:
    expected, difference = LIBVMAF[vae, size, number]
    metric = vmaf.build("cpu")
    reference, reconstruction = scored(vae, size, number)
    assert float(metric.measure(reference, reconstruction)) == pytest.approx(expected, abs=difference)
    if size == 64:
        both = metric.measure(torch.cat([reference, reconstruction]), torch.cat([reconstruction, reference]))
        assert float(both[0]) == pytest.approx(expected, abs=difference)
        assert abs(float(both[1]) - expected) > 2, "reference and reconstruction are not interchangeable"
        with pytest.raises(ValueError, match="32x32"):
            metric.measure(reference[..., :31, :31], reference[..., :31, :31])


def moving(frames: int, step: int, side: int = 96) -> torch.Tensor:
    """float32 (1, 3, T, side, side): a smooth random picture that moves by `step` pixels per frame, on the 8-bit grid."""
    noise = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(noise, (side + 32, side * 2), mode="bicubic").clamp(0.1, 0.9)
    video = torch.stack([wide[..., 16 : side + 16, 8 + step * t : 8 + step * t + side] for t in range(frames)], dim=2)
    return (video * 255).round() / 255


def test_an_error_that_moves_with_the_picture_flickers_only_without_compensation() -> None:
    reference = moving(frames=3, step=3)
    faded = 0.5 + 0.8 * (reference - 0.5)  # its error is a fixed part of the picture, and moves with it
    compensated, plain = (
        float(metric.measure(reference, faded)) for metric in (flicker_compensated.build("cpu"), Flicker())
    )
    assert plain > 2
    assert compensated < 0.15 * plain


def test_light_that_changes_flickers_with_motion_as_without() -> None:
    metric = flicker_compensated.build("cpu")
    for step in (0, 3):
        reference = moving(frames=3, step=step)
        lit = reference.clone()
        lit[:, :, 1] += 5 / 255
        by_pair = metric.by_frame(reference, lit)
        assert by_pair.shape == (1, 2)
        assert by_pair.flatten().tolist() == pytest.approx([5, 5], abs=1e-3)
    assert float(metric.measure(reference, reference)) == 0


def test_the_flow_is_that_of_the_reference_and_is_computed_once() -> None:
    calls = []

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append((a, b))
        return np.stack([np.zeros_like(a), np.full_like(a, -3)])  # the picture moves to the left

    metric = flicker_compensated.CompensatedFlicker(flow)
    reference = moving(frames=3, step=3)
    faded = 0.5 + 0.8 * (reference - 0.5)
    assert float(metric.measure(reference, faded)) < 1e-3, "with the true flow"
    assert len(calls) == 2
    assert np.abs(calls[0][0][:, 3:] - calls[0][1][:, :-3]).max() < 1e-6, "luma of frames 0 and 1"
    assert float(metric.measure(reference, reference)) == 0
    assert len(calls) == 2


def test_a_cut_has_no_flow_and_is_named() -> None:
    reference = torch.zeros(1, 3, 3, 32, 32)
    reference[:, :, 2] = 1
    with pytest.raises(ValueError, match="explains no pixel from frame 1 to frame 2, as at a cut"):
        flicker_compensated.build("cpu").measure(reference, reference)


@pytest.fixture
def vgg(tmp_path: Path) -> Path:
    """VGG-16 with random weights, in torchvision's layout."""
    from torchvision.models import vgg as layouts

    torch.manual_seed(0)
    file = tmp_path / "vgg16.pth"
    features = layouts.make_layers(layouts.cfgs["D"])
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, file)
    return file


WEIGHTS = Path(importlib.util.find_spec("DISTS_pytorch").origin).with_name("weights.pt")  # type: ignore[union-attr,arg-type]


def test_dists_is_that_of_its_package(vgg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision
    from DISTS_pytorch.DISTS_pt import DISTS as Theirs

    state = torch.load(vgg, weights_only=True)
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    monkeypatch.setattr(torchvision.models, "vgg16", lambda pretrained: SimpleNamespace(features=features))
    theirs, learned = Theirs(load_weights=False), torch.load(WEIGHTS, weights_only=True)
    theirs.alpha.data, theirs.beta.data = learned["alpha"], learned["beta"]
    metric = dists.DISTS(network_of_dists.load(WEIGHTS, vgg))
    reference, reconstruction = scored("pool/4x8x8", 64, 3, frames=3)
    expected = theirs(*(video[0].transpose(0, 1) for video in (reference, reconstruction)))
    by_frame = metric.by_frame(reference, reconstruction)[0].float()
    torch.testing.assert_close(by_frame, expected, atol=2e-6, rtol=2e-5)
    assert expected.min() > 0.01
    assert abs(float(metric.measure(reference, reference))) < 1e-6


def test_files_that_are_not_those_of_dists_are_refused(vgg: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"alpha": torch.zeros(3), "beta": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match=r"other\.pt does not have the weights of DISTS"):
        network_of_dists.load(other, vgg)
    with pytest.raises(ValueError, match=r"other\.pt is not torchvision's VGG-16"):
        network_of_dists.load(WEIGHTS, other)


def test_the_distance_of_videomae_features_is_over_windows_of_16_frames() -> None:
    def features(window: torch.Tensor) -> torch.Tensor:
        assert window.shape[2] == 16
        return torch.stack([window.mean(dim=(1, 2, 3, 4)), window[:, 0, 0, 0, 0]], dim=1)

    metric = fvd_videomae.VideoMAEFVD(features)
    draw = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 3, 40, 4, 4, generator=draw)  # three clips, whose last eight frames are not used
    statistics = metric.measure(a, b)
    assert statistics.shape == (3, 2, 2, 2)
    windows = [torch.cat([features(video[:, :, k : k + 16]) for k in (0, 16)]).double().numpy() for video in (a, b)]
    assert metric.reduce(statistics.numpy()) == pytest.approx(frechet(*windows))
    with pytest.raises(ValueError, match="at least 2 windows of 16 frames, got 1"):
        metric.reduce(statistics[:1, :, :1].numpy())
    assert "biased upwards" in metric.caution(8)


def page(*lines: str, blur: float = 0) -> torch.Tensor:
    """float32 (1, 3, 1, 144, 144) in 0..1: dark text on a bright page."""
    from PIL import ImageFilter

    picture = Image.new("RGB", (144, 144), (230, 230, 220))
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 17)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((12, 20 + 50 * number), line, font=font, fill=(20, 20, 60))
    frame = torch.from_numpy(np.array(picture.filter(ImageFilter.GaussianBlur(blur)))).permute(2, 0, 1)
    return frame[None, :, None].float() / 255


@pytest.fixture(scope="module")
def reader() -> TextFidelity:
    return text.build("cpu")


def test_text_that_stays_scores_one_and_text_that_changes_by_its_edits(reader: TextFidelity) -> None:
    reference = page("HELLO WORLD", "frame 2024")
    statistics = reader.measure(reference, page("HELLO WORLD", "frame 2029"))
    assert statistics.tolist() == [[2, pytest.approx(1.9)]]  # one edit in ten letters
    assert reader.reduce(statistics.numpy()) == pytest.approx(0.95)


def test_text_that_nobody_can_read_scores_zero_and_a_page_without_text_has_no_weight(reader: TextFidelity) -> None:
    ((count, total),) = reader.measure(page("HELLO WORLD"), page("HELLO WORLD", blur=6)).tolist()
    assert count == 1
    assert total < 0.3
    empty = reader.measure(page(), page("HELLO WORLD"))
    assert empty.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"no text could be read in the references \(1 clips\)"):
        reader.reduce(empty.numpy())
    assert reader.reduce(np.array([[0, 0], [2, 1.5], [1, 0]])) == 0.5, "the mean over instances, not over clips"


def test_every_eighth_frame_is_read_and_doubtful_readings_do_not_count() -> None:
    seen = []

    def read(picture: np.ndarray) -> tuple[str, float]:
        seen.append(int(picture[0, 0, 0]))
        return "word", 0.79 if picture[0, 0, 0] == 8 else 0.8

    metric = TextFidelity(Reader(lambda picture: [(2, 6, 2, 6)], read))
    video = (torch.arange(17) / 255).view(1, 1, 17, 1, 1).expand(1, 3, 17, 8, 8)
    assert metric.measure(video, video).tolist() == [[2, 2]]
    assert seen == [0, 0, 8, 16, 16]


@pytest.mark.parametrize(
    ("metric", "package"),
    [("vmaf", "vmaf_torch"), ("text", "rapidocr"), ("flicker_compensated", "skimage"), ("dists", "DISTS_pytorch")],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    metric: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    found = importlib.util.find_spec

    class Hidden:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=package)

    monkeypatch.setattr(sys, "meta_path", [Hidden, *sys.meta_path])
    monkeypatch.setattr(dists, "find_spec", lambda name: None if name == package else found(name))
    words = ["run", "vaes=pool/4x8x8", "clips=1", "num_frames=9", "size=32", f"metrics=psnr,{metric}"]
    assert cli.main(words) == 0
    table, notes = capsys.readouterr()
    assert f"absent: {metric}: the package {package} is not installed: run `pip install '.[metrics]'`" in notes
    assert metric in table


@pytest.mark.parametrize(
    ("metric", "name", "remedy"),
    [
        ("dists", "vgg16", "weights fetch vgg16"),
        ("fvd_videomae", "videomae_ssv2", "ssv2_ft.pth is not here: put the file"),
    ],
)
def test_missing_weights_are_named_with_the_way_to_get_them(
    metric: str, name: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("VAEBENCH_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(Unavailable, match=remedy):
        {"dists": dists, "fvd_videomae": fvd_videomae}[metric].build("cpu")  # type: ignore[attr-defined]
    assert name in weights.used_by([metric])


def test_no_optional_metric_is_in_the_default_protocol() -> None:
    from vaebench import protocol

    optional = {"vmaf", "text", "flicker_compensated", "dists", "fvd_videomae"}
    assert not optional & set(protocol.load("default").metrics)
