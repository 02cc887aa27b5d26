"""Windows of videos as Latte cuts them, their frames resized by each published path, and what is too short for one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.goldens_io import Golden, goldens
from tests.sources import build, cut
from tests.videos import pictures
from vaebench.generation import resizes, windows


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "clipsample"), ids=str)
def test_windows_are_the_official_ones(golden: Golden) -> None:
    tensors = golden.tensors()
    cases = next(value for key, value in tensors.items() if key.startswith("cases"))
    for row, (frames, interval, total, seed, begin, end, length) in enumerate(cases.tolist()):
        draw = random.Random(seed).randint
        assert windows.span(total, frames, interval, lambda most, draw=draw: draw(0, most)) == (begin, end)
        assert windows.spread(begin, end, frames) == tensors["ucf_indices"][row, :frames].tolist()
        assert list(range(begin, end, interval)) == tensors["sky_indices"][row, :length].tolist()


def test_ucf_windows_carry_labels_are_mirrored_and_take_short_videos_whole(ucf: Path) -> None:
    found = cut(build("ucf101", ucf), per_clip=2, flips=True)
    assert len(found) == 6 * 2 * 2
    assert [window.label for window in found[:4]] == ["Archery"] * 4
    assert found[0].scene == "Archery/v_Archery_g01"
    plain, mirrored, other = (found[i].load() for i in (0, 1, 2))
    assert plain.shape == (3, 16, 32, 32)
    assert plain.dtype == torch.uint8
    assert torch.equal(plain.flip(-1), mirrored)
    assert not torch.equal(plain, other)
    assert torch.equal(plain, cut(build("ucf101", ucf), per_clip=2, flips=True)[0].load())
    assert found[-1].load().shape == (3, 16, 32, 32)  # of 20 frames
    with pytest.raises(ValueError, match=r"YoYo_g03_c01\.avi: too short: it has 20 frames, a window needs 21"):
        cut(build("ucf101", ucf), frames=21)[-1].load()


def test_sky_windows_keep_the_interval_and_ask_for_more_than_the_span(sky: Path) -> None:
    long, short = cut(build("skytimelapse", sky))
    assert long.scene == short.scene == "07"
    every = torch.from_numpy(pictures(60, 32, 40)[:, :, 4:36]).permute(3, 0, 1, 2)  # (3, 60, 32, 32)
    shown = long.load()
    assert any(torch.equal(shown, every[:, begin : begin + 48 : 3]) for begin in range(12))
    with pytest.raises(ValueError, match=r"07_2: too short: .* needs more than 48 frames, it has 48"):
        short.load()


@pytest.mark.large
@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "preproc"), ids=str)
def test_resizes_are_the_official_ones(golden: Golden) -> None:
    size, tensors = golden.json("spec")["size"], golden.tensors()

    def resized(name: str, frames: torch.Tensor, *, images: bool = False) -> torch.Tensor:
        found = resizes.find(name, images=images)
        return torch.stack([found(frame, size) for frame in frames.permute(0, 2, 3, 1)]).float()  # (T, 3, size, size)

    video, image = tensors["ucf_u8_tchw"], tensors["sky_u8_tchw"]
    learned = resized("latte", video)
    near = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(learned / 127.5 - 1, tensors["ucf_out"], **near)
    torch.testing.assert_close(learned.flip(-1) / 255, tensors["ucf_flip"], **near)
    torch.testing.assert_close(resized("latte", image, images=True) / 127.5 - 1, tensors["sky_out"], **near)
    torch.testing.assert_close(resized("cdfvd", video).transpose(0, 1) / 255, tensors["cdfvd_video_cthw"], **near)
    for name, golden_frame in {"latte-tool": "frame_latte_tool", "styleganv-tool": "frame_sgv_tool"}.items():
        assert torch.equal(resized(name, video)[0].permute(1, 2, 0), tensors[golden_frame].float())


@pytest.mark.parametrize("name", resizes.NAMES)
@pytest.mark.parametrize("images", [False, True])
def test_every_resize_keeps_the_middle_and_crops_alone_at_its_own_size(name: str, images: bool) -> None:
    frame = torch.from_numpy(pictures(1, 32, 45)[0])
    resize = resizes.find(name, images=images)
    assert torch.equal(resize(frame, 32).byte(), frame[:, 6:38].permute(2, 0, 1))  # (45 - 32) / 2 = 6.5, to even
    ramp = torch.arange(90, dtype=torch.uint8).expand(64, 90)[..., None].expand(-1, -1, 3)
    assert resize(ramp, 16).shape == (3, 16, 16)
    assert resize(ramp, 16).float().mean().item() == pytest.approx(44.5, abs=2.1)  # of half a new pixel


def test_latte_resizes_without_antialiasing_and_flips_before_it_crops(ucf: Path, sky: Path) -> None:
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(16).expand(32, 32)[..., None].expand(-1, -1, 3)
    quarter = {name: resizes.find(name, images=False)(checks, 8).float().std().item() for name in resizes.NAMES}
    assert quarter["latte"] < 1
    third = torch.tensor([0, 0, 255], dtype=torch.uint8).repeat(8).expand(24, 24)[..., None].expand(-1, -1, 3)
    assert resizes.find("latte", images=False)(third, 8).max() == 0  # it reads every third pixel alone
    assert resizes.find("antialiased", images=False)(third, 8).max() > 60
    plain, mirrored = (cut(build("ucf101", ucf, size=33), flips=True, resize="latte")[i].load() for i in (0, 1))
    assert plain.dtype == torch.float32
    assert plain.shape == (3, 16, 33, 33)
    assert not torch.equal(plain.flip(-1), mirrored)  # 44 columns: 5 or 6 are cut off on the left
    assert cut(build("skytimelapse", sky), resize="latte")[0].load().dtype == torch.float32


def test_other_sources_start_at_their_first_frame() -> None:
    window = cut(build("synthetic", num_frames=46), clips=1)[0]
    assert torch.equal(window.load(), next(iter(build("synthetic", num_frames=46))).load()[:, ::3])
