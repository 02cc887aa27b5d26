"""`vaebench check` on somebody's own adapter, with one mode and no recorded values: each common fault, planted and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import adapters
from vaebench import check, cli, plugins
from vaebench.vae import FrameRule, Posterior, VAESpec

SPEC = VAESpec(
    "own", "a", 2, 2, 6, causal=True, frames=FrameRule(2, 1), size_multiple=2, parameters=2 * 3 * 27, license="-"
)


class Good:
    """Pixels and frames mix with their neighbours (no frame with a later one), then blocks of 2x2x2 keep two values a colour."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.net = nn.ModuleList([self._mixing(), self._mixing()]).requires_grad_(False)
        self.calls = 0
        self.last: Tensor | None = None

    @staticmethod
    def _mixing() -> nn.Conv3d:
        mixing = nn.Conv3d(3, 3, 3, groups=3, bias=False)
        mixing.weight.data.fill_(0.002)
        mixing.weight.data[:, :, 2, 1, 1] = 1 - 26 * 0.002  # this pixel, of this frame
        return mixing

    def mix(self, video: Tensor, which: int = 0) -> Tensor:
        return self.net[which](F.pad(video, (1, 1, 1, 1, 2, 0), mode="replicate"))

    def encode(self, video: Tensor) -> Posterior:
        small = F.avg_pool3d(self.mix(video), (1, 2, 2))  # (B, 3, 1 + 2k, h, w)
        ahead = torch.cat([small[:, :, :1], small], dim=2)  # pairs of frames, the first one twice
        return Posterior(torch.cat([ahead[:, :, ::2], ahead[:, :, 1::2]], dim=1))

    def decode(self, latent: Tensor) -> Tensor:
        frames = torch.stack(latent.chunk(2, dim=1), dim=3).flatten(2, 3)[:, :, 1:]
        return self.mix(frames.repeat_interleave(2, -1).repeat_interleave(2, -2), 1)


def _tiles(function: Callable[[Tensor], Tensor], unit: int) -> Callable[[Tensor], Tensor]:
    """`function` of the four quarters of every frame, put together again; the seams lie at multiples of `unit`."""

    def halves(x: Tensor, axis: int) -> tuple[Tensor, ...]:
        middle = x.shape[axis] // unit // 2 * unit
        return x.split([middle, x.shape[axis] - middle], axis)

    return lambda x: torch.cat(
        [torch.cat([function(part) for part in halves(row, -1)], -1) for row in halves(x, -2)], -2
    )


class TimesGain(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(latent) * 1.1


class PlusOffset(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(latent) + 0.05


class OneFrameLate(Good):
    def decode(self, latent: Tensor) -> Tensor:
        video = super().decode(latent)
        return torch.cat([video[:, :, :1], video[:, :, :-1]], dim=2)


class OneFrameEarly(Good):
    def decode(self, latent: Tensor) -> Tensor:
        video = super().decode(latent)
        return torch.cat([video[:, :, 1:], video[:, :, -1:]], dim=2)


class EncodesTiles(Good):
    def encode(self, video: Tensor) -> Posterior:
        return Posterior(_tiles(lambda part: super(EncodesTiles, self).encode(part).mean, 2)(video))


class DecodesTiles(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return _tiles(super().decode, 1)(latent)


class ReadsZeroToOne(Good):
    def encode(self, video: Tensor) -> Posterior:
        return super().encode(video * 2 - 1)


class GivesZeroToOne(Good):
    def encode(self, video: Tensor) -> Posterior:
        return super().encode(video / 2 + 0.5)


class ClampsInputToZeroToOne(Good):
    def encode(self, video: Tensor) -> Posterior:
        return super().encode(video.clamp(0, 1))


class RemembersTheClip(Good):
    def encode(self, video: Tensor) -> Posterior:
        self.last = super().encode(video).mean
        return Posterior(self.last.clone())

    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(self.last if self.last is not None and self.last.shape == latent.shape else latent)


class CarriesFramesOver(Good):
    def encode(self, video: Tensor) -> Posterior:
        before = video[:, :, :1] if self.last is None or self.last.shape != video[:, :, :1].shape else self.last
        self.last = video[:, :, -1:].clone()
        return super().encode(torch.cat([0.9 * video[:, :, :1] + 0.1 * before, video[:, :, 1:]], dim=2))


class SeventhEncode(Good):
    def encode(self, video: Tensor) -> Posterior:
        self.calls += 1
        return super().encode(video * (1.001 if self.calls >= 7 else 1.0))


class OnlySeventhDecode(Good):
    def decode(self, latent: Tensor) -> Tensor:
        self.calls += 1
        return super().decode(latent * (1.001 if self.calls == 7 else 1.0))


class Clamps(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(latent).clamp(-1, 1)


class SaysItClamps(Good):
    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(SPEC, clamps=True)


class HalfInEncode(Good):
    def encode(self, video: Tensor) -> Posterior:
        return Posterior(super().encode(video.half().float()).mean)


class HalfInsideDecode(Good):
    def mix(self, video: Tensor, which: int = 0) -> Tensor:
        mixed = super().mix(video, which)
        return mixed.half().float() if which else mixed


class Bfloat16Latent(Good):
    def encode(self, video: Tensor) -> Posterior:
        return Posterior(super().encode(video).mean.bfloat16().float())


class Float64Video(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(latent).double()


class Float16Logvar(Good):
    def encode(self, video: Tensor) -> Posterior:
        mean = super().encode(video).mean
        return Posterior(mean, torch.zeros_like(mean).half())


class WrongCount(Good):
    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(SPEC, parameters=SPEC.parameters + 1)


class WritesIntoVideo(Good):
    def encode(self, video: Tensor) -> Posterior:
        return super().encode(video.add_(0.01))


class WritesIntoLatent(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return super().decode(latent.mul_(1.01).div_(1.01).add_(1e-3).sub_(1e-3))


class WritesIntoVideoLater(Good):
    def encode(self, video: Tensor) -> Posterior:
        if self.last is not None:
            self.last.zero_()
        self.last = video
        return super().encode(video)


FAULTS: dict[type[Good], str] = {
    TimesGain: "gain and offset",
    PlusOffset: "gain and offset",
    OneFrameLate: "frame shift",
    OneFrameEarly: "frame shift",
    EncodesTiles: "hidden tiles",
    DecodesTiles: "hidden tiles",
    ReadsZeroToOne: "value range",
    GivesZeroToOne: "gain and offset",
    ClampsInputToZeroToOne: "value range",
    RemembersTheClip: "other clips",
    CarriesFramesOver: "determinism",
    SeventhEncode: "determinism",
    OnlySeventhDecode: "determinism",
    Clamps: "clamping",
    SaysItClamps: "clamping",
    HalfInEncode: "precision",
    HalfInsideDecode: "precision",
    Bfloat16Latent: "precision",
    Float64Video: "dtype and device",
    Float16Logvar: "dtype and device",
    WrongCount: "parameters",
    WritesIntoVideo: "inputs unchanged",
    WritesIntoLatent: "inputs unchanged",
    WritesIntoVideoLater: "inputs unchanged",
}


# a wrong range is a wrong gain too, and what remembers depends on the order of the tests
SEVERAL = (ReadsZeroToOne, GivesZeroToOne, ClampsInputToZeroToOne, RemembersTheClip, CarriesFramesOver)


def _failed(vae: Good, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Test -> what was said, of the tests that failed on the command line, which ends with 1 if there are any."""
    module = ModuleType("own")
    module.VARIANTS = {"a": vae.spec}
    module.load = lambda spec, **_: vae
    real = plugins.find
    monkeypatch.setattr(plugins, "find", lambda kind, name: module if name == "own" else real(kind, name))
    code = cli.main(["check", "own/a", "num_frames=9", "size=24"])
    lines = [line.removeprefix("FAIL  ") for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert code == (1 if lines else 0)
    return dict(line.split(": ", 1) for line in lines)


def test_a_good_vae_passes_and_every_test_of_it_applies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert _failed(Good(), monkeypatch, capsys) == {}
    config = check.CheckConfig(num_frames=9, size=24)
    skipped = [verdict.test for verdict in check.verdicts(adapters.resolve("own/a"), config) if verdict.passed is None]
    assert skipped == ["weights checksum", "block wise against whole", "canary"]
    first = next(check.verdicts(adapters.resolve("own/a"), config))
    assert str(first) == "n/a   weights checksum: not applicable: the VAE has no weights"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_by_the_test_of_its_name(
    fault: type[Good], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    failed = _failed(fault(), monkeypatch, capsys)
    assert FAULTS[fault] in failed
    if fault not in SEVERAL:
        assert len(failed) == 1, failed


def test_a_quantised_latent_is_not_taken_for_low_precision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Quantised(Good):
        def encode(self, video: Tensor) -> Posterior:
            return Posterior(super().encode(video).mean.mul(8).round().div(8))

    assert _failed(Quantised(), monkeypatch, capsys) == {}


def test_the_adapter_that_writes_into_its_input_is_told_which_half_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    said = _failed(WritesIntoVideo(), monkeypatch, capsys)["inputs unchanged"]
    assert said == "encode changes its input; work on a copy"


def _nan(values: Tensor) -> Tensor:
    return values * float("nan")


class DecodesNaN(Good):
    def decode(self, latent: Tensor) -> Tensor:
        return _nan(super().decode(latent))


class EncodesNaN(Good):
    def encode(self, video: Tensor) -> Posterior:
        return Posterior(_nan(super().encode(video).mean))


# tests that look at neither the values of the latent nor at those of the frames
STRUCTURE = {"weights checksum", "dtype and device", "parameters", "block wise against whole", "canary"}


@pytest.mark.parametrize(
    ("fault", "what", "unaffected"),
    [
        (DecodesNaN, "reconstruction", STRUCTURE | {"inputs unchanged", "batch", "causality"}),
        (EncodesNaN, "latent", STRUCTURE),
    ],
)
def test_a_vae_that_gives_nan_fails_what_depends_on_it_for_that_reason(
    fault: type[Good],
    what: str,
    unaffected: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    failed = _failed(fault(), monkeypatch, capsys)
    assert failed.keys() == {test.__name__.replace("_", " ") for test in check.TESTS} - unaffected
    padded = "own/a: the reconstruction has NaN or infinite pixels; try dtype=float32, or check encode and decode of"
    said = {test: sentence for test, sentence in failed.items() if padded not in sentence}
    assert set(said.values()) == {f"the {what} is not finite: it has NaN or infinite values"}
    assert failed.keys() - said.keys() == {"frame rule", "sizes"} | ({"shapes"} if what == "reconstruction" else set())


def test_a_mode_that_gives_nan_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    good, nan = Good(), DecodesNaN()
    good.spec = replace(SPEC, modes=("whole", "tiled"), lossless_modes=("tiled",))
    module = ModuleType("own")
    module.VARIANTS = {"a": good.spec}
    module.load = lambda spec, *, mode, **_: nan if mode == "tiled" else good
    real = plugins.find
    monkeypatch.setattr(plugins, "find", lambda kind, name: module if name == "own" else real(kind, name))
    assert cli.main(["check", "own/a", "num_frames=9", "size=24"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert lines == [
        "FAIL  block wise against whole: tiled: the reconstruction is not finite: it has NaN or infinite values"
    ]


def test_an_overflow_of_scaled_latents_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Overflows(Good):
        def decode(self, latent: Tensor) -> Tensor:
            video = super().decode(latent)
            return video if latent.abs().max() < 1 else _nan(video)

    assert _failed(Overflows(), monkeypatch, capsys) == {}


def test_a_latent_in_place_of_its_posterior_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Plain(Good):
        def encode(self, video: Tensor) -> Tensor:
            return super().encode(video).mean

    failed = _failed(Plain(), monkeypatch, capsys)
    assert len(failed) == len(check.TESTS) - 4  # checksum, parameters, block-wise modes and canary
    assert set(failed.values()) == {
        "own/a: encode should return a vaebench.Posterior, got Tensor: return Posterior(latent)"
    }


def test_frames_of_a_wrong_size_are_told_by_every_test_that_compares_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Cuts(Good):
        def decode(self, latent: Tensor) -> Tensor:
            return super().decode(latent)[..., 1:, :]

    failed = _failed(Cuts(), monkeypatch, capsys)
    comparing = {"shapes", "frame rule", "sizes", "value range", "gain and offset", "frame shift", "hidden tiles"}
    assert failed.keys() == comparing
    assert all("own/a: the reconstruction of a video" in sentence for sentence in failed.values())


def test_an_error_of_several_lines_is_a_verdict_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Raises(Good):
        error: Exception = ValueError("my\nbug")

        def decode(self, latent: Tensor) -> Tensor:
            raise self.error

    assert set(_failed(Raises(), monkeypatch, capsys).values()) == {"my bug"}
    Raises.error = RuntimeError("my\n bug")
    assert set(_failed(Raises(), monkeypatch, capsys).values()) == {"RuntimeError: my bug"}


def test_what_an_untrained_network_cannot_show_is_not_applicable_with_a_reason():
    found = {
        v.test: v
        for v in check.verdicts(adapters.resolve("wfvae/tiny-random"), check.CheckConfig(num_frames=5, size=16))
    }
    for test in ("value range", "gain and offset", "frame shift"):
        assert found[test].passed is None
        assert str(found[test]) == f"n/a   {test}: not applicable: an untrained VAE reconstructs nothing"
    assert [test for test, verdict in found.items() if verdict.passed is False] == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_that_was_asked_for_is_no_fault(dtype: str):
    config = check.CheckConfig(num_frames=4, size=16, dtype=dtype)
    assert [v.test for v in check.verdicts(adapters.resolve("pool/4x8x8"), config) if v.passed is False] == []


READY = ["dct/4", "dct/8", "dct/16", "pool/4x8x8", "pool/4x4x4", "pool/1x8x8", "identity/pixels", "wfvae/tiny"]
TINY = [f"{name}/tiny" for name in plugins.names("adapters") if name not in ("dct", "pool", "identity", "wfvae")]
SIDES = {"ltx2/tiny": 64, "minimaxh3/tiny": 32}  # the smallest that they take


@pytest.mark.parametrize("name", [*READY, *TINY])
def test_no_shipped_vae_raises_a_false_alarm(name: str):
    config = check.CheckConfig(num_frames=5, size=SIDES.get(name, 16))
    verdicts = {v.test: v for v in check.verdicts(adapters.resolve(name), config)}
    assert {test: v.sentence for test, v in verdicts.items() if v.passed is False} == {}
    assert len(verdicts) == len(check.TESTS)
    assert verdicts["parameters"].passed is (True if adapters.find(name).parameters else None)
    if name in READY:  # with weights, or without any to train: what they reconstruct can be judged
        assert all(verdicts[test].passed for test in ("value range", "gain and offset", "frame shift"))
