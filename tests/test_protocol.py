"""Protocols: what they say is what happens, their files are whole, and mp4v is what OpenCV writes and decord reads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.goldens_io import Golden, goldens
from vaebench import plugins, protocol
from vaebench.compression import h264
from vaebench.protocol import Protocol
from vaebench.video import to_model, to_score

DEFAULT = protocol.load("default")
PAPER = protocol.load("wfvae-paper")
LEVELS = torch.arange(256, dtype=torch.uint8)


def moving(frames: int, height: int, width: int) -> Tensor:
    """uint8 (1, 3, T, H, W): three waves that travel, by integer arithmetic alone."""
    t, y, x = (torch.arange(n) for n in (frames, height, width))
    phase = 5 * t[:, None, None] + 3 * y[:, None] + 7 * x
    planes = [((phase * k) % 509 - 254).abs() for k in (1, 2, 3)]
    return torch.stack(planes).to(torch.uint8)[None]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize("name", protocol.names())
def test_every_protocol_loads_and_names_metrics_that_there_are(name: str) -> None:
    loaded = protocol.load(name)
    assert loaded.name == name
    assert loaded.about
    assert loaded.source
    assert set(loaded.metrics) <= set(plugins.names("metrics"))
    assert all(isinstance(note, str) for note in loaded.notes)


def test_default_and_paper_are_among_them_and_an_unknown_name_gets_the_nearest() -> None:
    assert {"default", "wfvae-paper"} <= set(protocol.names())
    with pytest.raises(ValueError, match=r"no protocol 'wfvae_paper'; did you mean 'wfvae-paper'\?"):
        protocol.load("wfvae_paper")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounding": "up"}, "rounding='up' is not one of nearest, truncate, none"),
        ({"colour": "bt601"}, r"no setting 'colour'"),
        ({"roundin": "nearest"}, r"no setting 'roundin'; did you mean 'rounding'\?"),
        ({"codec": None}, r"codec=None is not one of none, mp4v, h264"),
        ({"metrics": {"psnr": None}}, "is not a list: expected metrics=one,two"),
        ({"about": ["one", "two"]}, r"about=\['one', 'two'\] should be text"),
        ({"name": "other"}, r"remove the key 'name'"),
    ],
)
def test_a_file_with_a_wrong_key_or_choice_is_refused_by_name(change: dict, message: str) -> None:
    data = {key: value for key, value in dataclasses.asdict(DEFAULT).items() if key != "name"}
    assert protocol.parse("default", data) == DEFAULT
    with pytest.raises(ValueError, match=f"protocol mine: .*{message}"):
        protocol.parse("mine", {**data, **change})
    del data["posterior"]
    with pytest.raises(ValueError, match=r"protocol mine: the setting 'posterior' is missing"):
        protocol.parse("mine", data)


def test_the_paper_protocol_is_what_the_scripts_do() -> None:
    assert (PAPER.posterior, PAPER.dtype, PAPER.rounding, PAPER.codec) == (
        "sample",
        "bfloat16",
        "truncate",
        "mp4v",
    )
    assert PAPER.metrics == ("psnr", "ssim", "lpips", "i3d_l2")
    assert "fvd" not in PAPER.metrics  # the scripts' number of that name is none


def test_the_default_scores_what_the_vae_gives() -> None:
    video = torch.randn(2, 3, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(DEFAULT.to_score(video), to_score(video))


def test_truncation_drops_the_fraction_and_leaves_stored_values_alone() -> None:
    truncating = dataclasses.replace(DEFAULT, rounding="truncate")
    stored = LEVELS.view(1, 1, 1, 16, 16)
    assert torch.equal(truncating.to_score(to_model(stored)), stored / 255)
    between = to_model(stored[..., :15]) + 0.9 / 127.5  # nine tenths of a level above
    assert torch.equal(truncating.to_score(between), stored[..., :15] / 255)
    beyond = torch.tensor([-3.0, 3.0]).view(1, 1, 1, 1, 2)
    assert truncating.to_score(beyond).flatten().tolist() == [0, 1]


def test_rounding_none_scores_float_pixels() -> None:
    exact = dataclasses.replace(DEFAULT, rounding="none")
    video = torch.tensor([-3.0, -0.5, 0.001, 3.0]).view(1, 1, 1, 1, 4)
    assert torch.allclose(exact.to_score(video).flatten(), torch.tensor([0, 0.25, 0.5005, 1]), atol=1e-7)
    with pytest.raises(ValueError, match="codec=mp4v compresses 8-bit pixels: rounding should be nearest or truncate"):
        dataclasses.replace(exact, codec="mp4v")


def test_frames_reach_the_vae_in_either_range_and_stay_as_they_were() -> None:
    stored = LEVELS.view(1, 1, 1, 16, 16)
    unit = stored / 255
    before = unit.clone()
    assert torch.equal(DEFAULT.to_model(stored), to_model(stored))
    assert torch.allclose(DEFAULT.to_model(unit), to_model(stored), atol=1e-6)
    assert torch.equal(unit, before)  # decoded clips are cached for the next VAE


def test_pixels_in_bfloat16_are_those_of_the_script() -> None:
    """The script in NumPy's words: unit range to bfloat16, times two minus one; back by plus one, half, float, times 255, down."""
    unit = torch.linspace(0, 1, 1000).view(1, 1, 1, 25, 40)
    model = unit.bfloat16() * 2 - 1
    assert torch.equal(PAPER.to_model(unit), model.float())
    files = (255 * ((model.clamp(-1, 1) + 1) / 2).float().numpy()).astype("uint8")
    uncompressed = dataclasses.replace(PAPER, codec="none")
    assert torch.equal(uncompressed.to_score(model.float()) * 255, torch.from_numpy(files).float())


def test_compressed_reconstruction_leaves_the_reference_alone() -> None:
    one_side = protocol.load("default-h264-one-side")
    video = to_model(moving(3, 16, 16))
    assert torch.equal(one_side.to_score(video, reference=True), to_score(video))
    assert torch.equal(one_side.to_score(video), protocol.load("default-h264").to_score(video, reference=True))
    assert not torch.equal(one_side.to_score(video), to_score(video))


def test_tokenbench_compresses_the_clip_before_the_vae_and_the_reference_no_second_time() -> None:
    tokenbench = protocol.load("tokenbench")
    stored = moving(3, 16, 16)
    once = h264(stored[0].permute(1, 2, 3, 0)).permute(3, 0, 1, 2)[None]
    assert torch.equal(tokenbench.to_model(stored), to_model(once))
    assert torch.equal(tokenbench.to_model(stored / 255), to_model(once))
    assert torch.equal(tokenbench.to_score(to_model(once), reference=True), once / 255)


@pytest.mark.parametrize("name", [name for name in protocol.names() if protocol.load(name).base])
def test_a_variant_differs_from_its_base_in_one_choice(name: str) -> None:
    variant = protocol.load(name)
    base = protocol.load(variant.base)
    same = {"name", "about", "notes", "base", "clip"}
    differing = [
        field.name
        for field in dataclasses.fields(Protocol)
        if field.name not in same and getattr(variant, field.name) != getattr(base, field.name)
    ]
    # the codec of one side is the codec of both sides with one other choice
    assert len(differing) == 1 or (name == "default-h264-one-side" and differing == ["codec", "compressed"])


def test_several_protocols_are_named_with_commas_and_each_counts_once() -> None:
    assert [one.name for one in protocol.load_all("default,wfvae-paper,default")] == ["default", "wfvae-paper"]
    assert protocol.load_all("[vidtok]") == [protocol.load("vidtok")]
    with pytest.raises(ValueError, match="did you mean 'vidtok'"):
        protocol.load_all("default,vidtock")
    with pytest.raises(ValueError, match="names no protocol"):
        protocol.load_all("[]")


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "h264"), ids=str)
def test_h264_is_mediapys_file_read_by_mediapy(golden: Golden) -> None:
    expected = golden.tensors()["frames"]  # uint8 (T, H, W, 3)
    source = moving(*expected.shape[:3])[0].permute(1, 2, 3, 0)
    got = h264(source)
    assert (got.int() - expected.int()).abs().max() <= 2  # exact where it was made; other builds of x264 may differ
    assert psnr(expected / 255, source / 255) < 45


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "mp4v"), ids=str)
def test_mp4v_is_opencvs_file_read_by_decord(golden: Golden) -> None:
    expected = golden.tensors()["frames"].permute(3, 0, 1, 2)[None]  # uint8 (T, H, W, 3), as decord gives it
    source = moving(*expected.shape[2:])
    got = dataclasses.replace(DEFAULT, codec="mp4v").to_score(to_model(source)) * 255
    assert (got - expected).abs().max() <= 2  # exact where it was made; other processors may round otherwise
    assert psnr(expected / 255, source / 255) < 45  # and the codec is no small thing


@pytest.mark.parametrize("kind", ["mp4v", "h264"])
def test_there_is_a_golden_of_each_codec(kind: str) -> None:
    assert goldens(lambda m: m.get("kind") == kind)


def test_mp4v_keeps_clips_apart_and_is_the_same_every_time() -> None:
    mp4v = dataclasses.replace(DEFAULT, codec="mp4v")
    one, other = to_model(moving(5, 32, 48)), to_model(moving(5, 32, 48).flip(3))
    both = mp4v.to_score(torch.cat([one, other]))
    assert both.shape == (2, 3, 5, 32, 48)
    assert both.dtype == torch.float32
    assert torch.equal(both[:1], mp4v.to_score(one))
    assert torch.equal(both[1:], mp4v.to_score(other))
    assert torch.equal(both * 255, (both * 255).round())


@pytest.mark.parametrize("frames", [1, 2, 13])
def test_mp4v_gives_back_as_many_frames_as_went_in(frames: int) -> None:
    assert PAPER.to_score(to_model(moving(frames, 16, 16))).shape[2] == frames


def test_mp4v_refuses_odd_sizes() -> None:
    with pytest.raises(ValueError, match="even height and width, got 16x17"):
        PAPER.to_score(to_model(moving(2, 16, 17)))


def test_a_protocol_is_plain_data() -> None:
    assert isinstance(PAPER, Protocol)
    assert hash(PAPER) == hash(protocol.load("wfvae-paper"))
