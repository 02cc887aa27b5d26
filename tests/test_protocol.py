"""Protocols: what they say is what happens, their files are whole, and mp4v is what OpenCV writes and decord reads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.goldens_io import Golden, goldens
from vaebench import plugins, protocol
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
        ({"rounding": "up"}, "rounding='up' is not one of nearest, truncate"),
        ({"colour": "bt601"}, r"no setting 'colour'"),
        ({"roundin": "nearest"}, r"no setting 'roundin'; did you mean 'rounding'\?"),
        ({"codec": None}, r"codec=None is not one of none, mp4v"),
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


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "mp4v"), ids=str)
def test_mp4v_is_opencvs_file_read_by_decord(golden: Golden) -> None:
    expected = golden.tensors()["frames"].permute(3, 0, 1, 2)[None]  # uint8 (T, H, W, 3), as decord gives it
    source = moving(*expected.shape[2:])
    got = dataclasses.replace(DEFAULT, codec="mp4v").to_score(to_model(source)) * 255
    assert (got - expected).abs().max() <= 2  # exact where it was made; other processors may round otherwise
    assert psnr(expected / 255, source / 255) < 45  # and the codec is no small thing


def test_there_is_a_golden_of_mp4v() -> None:
    assert goldens(lambda m: m.get("kind") == "mp4v")


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
