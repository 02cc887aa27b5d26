"""Reconstruction of a clip window by window: the scores of the whole clip, in memory that does not grow with its length."""

from __future__ import annotations

import gc
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import vaebench
from adapters import taehv, wfvae
from tests.sources import build
from tests.videos import pictures, write
from vaebench import cli, records
from vaebench.config import RunConfig
from vaebench.data import ListedSource
from vaebench.evaluation import InMemory
from vaebench.inference import streaming
from vaebench.metrics.psnr import PSNR
from vaebench.options import ReconstructionOptions
from vaebench.prefetch import PIECES_AHEAD, Prefetch
from vaebench.suite import Case
from vaebench.suites.reconstruction import Reconstruction
from vaebench.vae import Posterior, reconstruct
from vaebench.video import WINDOW, Clip, rechunked

FAMILIES = {"wfvae": wfvae.tiny, "taehv": taehv.tiny}


class InOneCall:
    """A streaming VAE whose streams are hidden, so that the suite gives it the whole clip."""

    def __init__(self, vae: Any) -> None:
        self.spec, self.vae = vae.spec, vae

    def encode(self, video: Tensor) -> Posterior:
        return self.vae.encode(video)

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)


def frames_of(count: int, height: int = 40, width: int = 48) -> Tensor:
    return torch.from_numpy(pictures(count, height, width)).permute(3, 0, 1, 2).contiguous()  # uint8 (3, T, H, W)


def clip_of(frames: Tensor, name: str = "a") -> Clip:
    """A clip whose frames are only available one by one."""

    def whole() -> Tensor:
        raise AssertionError("the whole clip was decoded")

    return Clip(name, 25.0, whole, stream=lambda: iter(frames.split(1, dim=1)))


def statistics(vae: Any, clip: Clip, num_frames: int, mode: str = "streamed", **given: Any) -> dict[str, np.ndarray]:
    """The statistics of one clip, by name of the metric."""
    options = {name: given.pop(name) for name in ("keep", "keep_video", "keep_latents") if name in given}
    chosen = ReconstructionOptions(metrics=["psnr", "psnr_pooled", "ssim", "flicker"], **options)
    suite = Reconstruction(RunConfig(num_frames=num_frames, mode=mode, device="cpu", **given), chosen)
    (case,) = suite.cases(ListedSource({"name": "x"}, [clip]), vae.spec)
    return {name.partition(".")[0]: value for name, value in suite.measure(vae, case).items()}


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- equal to the whole clip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_frames", [1, 17, 38])
def test_a_streamed_clip_has_the_statistics_of_the_same_vae_on_the_whole_clip(family: str, num_frames: int) -> None:
    vae, frames = FAMILIES[family](mode="streamed"), frames_of(num_frames, 41, 50)  # is padded to legal sizes
    saved: dict[str, Any] = {"keep": ["1"], "keep_video": ["1"], "keep_latents": True}
    streamed = statistics(vae, clip_of(frames), num_frames, **saved)
    assert equal(streamed, statistics(InOneCall(vae), Clip("a", 25.0, lambda: frames), num_frames, **saved))
    assert streamed["video"].shape == (2, num_frames, 41, 50, 3)
    assert np.array_equal(streamed["video"][0], frames.permute(1, 2, 3, 0).numpy())


def test_a_sample_of_the_posterior_has_the_noise_of_the_whole_clip() -> None:
    vae, frames = wfvae.tiny(mode="streamed"), frames_of(38)
    sampled = [
        statistics(each, clip, 38, posterior="sample", seed=3, keep_latents=True)
        for each, clip in ((vae, clip_of(frames)), (InOneCall(vae), Clip("a", 25.0, lambda: frames)))
    ]
    assert equal(*sampled)
    assert not equal(sampled[0], statistics(vae, clip_of(frames), 38, keep_latents=True))


@pytest.mark.parametrize(
    "protocol", ["vidtok", "default-mp4v", "default-truncate", "default-h264-one-side", "tokenbench", "wfvae-paper"]
)
def test_every_protocol_scores_a_streamed_clip_as_a_whole_one(protocol: str) -> None:
    vae, frames = taehv.tiny(mode="streamed"), frames_of(20, 64, 64)
    stream = replace(clip_of(frames), load=lambda: frames)
    given = {"protocol": protocol, "dtype": "float32"}
    assert equal(
        statistics(vae, stream, 20, **given), statistics(InOneCall(vae), replace(stream, stream=None), 20, **given)
    )


def test_a_stored_latent_is_decoded_without_the_encoder() -> None:
    vae, frames = wfvae.tiny(mode="streamed"), frames_of(33)
    first = statistics(vae, clip_of(frames), 33, keep_latents=True)
    chosen = ReconstructionOptions(metrics=["psnr", "ssim"], keep_latents=True)
    suite = Reconstruction(RunConfig(num_frames=33, mode="streamed", device="cpu"), chosen)
    (case,) = suite.cases(ListedSource({"name": "x"}, [clip_of(frames)]), vae.spec)

    def encode(*_: Any) -> None:
        raise AssertionError("the clip was encoded again")

    vae.encode_stream = vae.encode = encode  # type: ignore[method-assign, assignment]
    again = suite.measure(vae, replace(case, stored={"latent": first["latent"]}))
    assert all(
        np.array_equal(value, first[name.partition(".")[0]]) for name, value in again.items() if name != "latent"
    )


def test_a_vae_without_streams_and_a_source_without_pieces_are_measured_in_this_mode_too() -> None:
    vae, frames = wfvae.tiny(mode="streamed"), frames_of(17)
    whole = Clip("a", 25.0, lambda: frames)
    assert equal(statistics(vae, whole, 17), statistics(vae, clip_of(frames), 17))
    assert equal(statistics(InOneCall(vae), whole, 17), statistics(vae, whole, 17))


# --- memory ---------------------------------------------------------------------------------------------------------


def live_bytes() -> int:
    """The bytes of all tensors that Python can reach."""
    found = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if type(t) is Tensor
    }
    return sum(found.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tensors_that_live_at_once_do_not_grow_with_the_clip(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = FAMILIES[family](mode="streamed")
    most: dict[int, int] = {}
    score, length = PSNR.frame_values, 0

    def counting(self: PSNR, reference: Tensor, reconstruction: Tensor) -> Tensor:
        assert reference.shape[2] <= WINDOW
        most[length] = max(most.get(length, 0), live_bytes())
        return score(self, reference, reconstruction)

    monkeypatch.setattr(PSNR, "frame_values", counting)
    frame = frames_of(1, 32, 32)
    for length in (97, 97 + 3 * WINDOW):
        clip = Clip("a", 25.0, lambda: frame, stream=lambda count=length: iter([frame] * count))
        suite = Reconstruction(
            RunConfig(num_frames=length, mode="streamed", device="cpu"), ReconstructionOptions(metrics=["psnr", "ssim"])
        )
        (case,) = suite.cases(ListedSource({"name": "x"}, [clip]), vae.spec)
        with Prefetch() as prefetch:
            for each in prefetch.decoded([case]):
                suite.measure(vae, each)
    short, long = most.values()
    window = 3 * WINDOW * 32 * 32 * 4  # bytes of a window in float32
    assert long <= short + window / 4


def test_a_whole_clip_is_scored_without_a_second_copy_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference in uint8, the reconstruction in float32, and a few windows: less than two videos in float32."""
    vae, frames = InOneCall(taehv.tiny()), frames_of(12 * WINDOW, 64, 64)
    before, most = live_bytes(), []
    score = PSNR.frame_values
    monkeypatch.setattr(PSNR, "frame_values", lambda *given: (most.append(live_bytes()), score(*given))[1])
    statistics(vae, Clip("a", 25.0, lambda: frames), 12 * WINDOW, mode="")
    assert max(most) - before < 2 * 4 * frames.numel()


def test_frames_are_decoded_at_most_a_few_ahead_of_the_vae() -> None:
    decoded = 0

    def stream() -> Iterator[Tensor]:
        nonlocal decoded
        for _ in range(5 * PIECES_AHEAD):
            decoded += 1
            yield torch.zeros(3, 1, 2, 2, dtype=torch.uint8)

    with Prefetch() as prefetch:
        case = Case("a", Clip("a", 0.0, lambda: torch.zeros(0), stream=stream), streamed=True)
        (ready,) = prefetch.decoded([case])
        assert ready.clip is not None
        assert ready.clip.stream is not None
        pieces = ready.clip.stream()
        for taken in range(1, 50):
            next(pieces)
            assert decoded <= taken + PIECES_AHEAD
        assert len(list(pieces)) == 5 * PIECES_AHEAD - 49


# --- faults ---------------------------------------------------------------------------------------------------------


def damaged_clips(root: Path) -> Path:
    """Two sound clips of 40 frames and, between them in the order, one whose middle is damaged and one that is too short."""
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3)).astype(np.uint8)
    for name in ("a", "d"):
        write(root / f"{name}.mkv", noise)
    write(root / "c.mkv", noise[:30])
    file = write(root / "b.mkv", noise, options={"g": "250", "bf": "0"})
    content = bytearray(file.read_bytes())
    for at in np.random.default_rng(1).integers(len(content) * 6 // 10, len(content) * 7 // 10, 60):
        content[at] ^= 0x55
    file.write_bytes(content)
    return root


def test_a_frame_that_is_damaged_in_the_middle_fails_its_clip_alone_with_the_message_of_a_whole_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = damaged_clips(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    words = ["data=folder", f"root={root}", "num_frames=40", "size=32", "metrics=psnr", "vaes=wfvae/tiny"]
    found = {}
    for mode in ("whole", "streamed"):
        assert cli.main(["run", *words, f"mode={mode}", f"results={mode}"]) == 1
        (found[mode],) = records.read_all(Path(mode))
    assert found["streamed"].failed == found["whole"].failed
    assert [failure.file for failure in found["streamed"].failed] == ["b.mkv", "c.mkv"]
    assert str(root) not in found["streamed"].failed[0].reason
    assert found["streamed"].scores["psnr"].n == 2
    assert found["streamed"].scores["psnr"].value == pytest.approx(found["whole"].scores["psnr"].value, rel=1e-4)


class Wrong:
    """A streaming VAE of 4x8x8 that does one thing wrong."""

    def __init__(self, wrong: str) -> None:
        self.inner, self.wrong = wfvae.tiny(mode="streamed"), wrong
        self.spec = self.inner.spec

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        for q in self.inner.encode_stream(chunks):
            mean = {"channels": q.mean[:, 1:], "more": q.mean.repeat(1, 1, 2, 1, 1)}.get(self.wrong, q.mean)
            if self.wrong != "fewer":
                yield Posterior(mean)
            self.wrong = "" if self.wrong == "fewer" else self.wrong

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        for video in self.inner.decode_stream(chunks):
            yield {"nan": video * float("nan"), "frames": video[:, :, :-1], "rows": video[..., 1:, :]}.get(
                self.wrong, video
            )

    def encode(self, video: Tensor) -> Posterior:
        return Posterior(torch.cat([q.mean for q in self.encode_stream(video.split(16, dim=2))], dim=2))

    def decode(self, latent: Tensor) -> Tensor:
        return torch.cat(list(self.decode_stream(latent.split(4, dim=2))), dim=2)


@pytest.mark.parametrize("wrong", ["channels", "fewer", "nan", "rows"])
def test_a_wrong_latent_or_reconstruction_is_refused_with_the_message_of_a_whole_clip(wrong: str) -> None:
    video = torch.zeros(1, 3, 33, 16, 16)
    with pytest.raises(ValueError, match="wfvae/tiny") as whole:
        reconstruct(Wrong(wrong), video)
    vae = Wrong(wrong)
    latents = streaming.encoded(vae, video.split(16, dim=2), tuple(video.shape))
    with pytest.raises(ValueError, match="wfvae/tiny") as streamed:
        list(streaming.decoded(vae, latents, tuple(video.shape)))
    ours, theirs = (str(error.value).partition("the shape")[0] for error in (streamed, whole))
    assert ours == theirs


@pytest.mark.parametrize("wrong", ["more", "frames"])
def test_too_many_latents_and_too_few_frames_are_refused(wrong: str) -> None:
    video, vae = torch.zeros(1, 3, 33, 16, 16), Wrong(wrong)
    latents = streaming.encoded(vae, video.split(16, dim=2), tuple(video.shape))
    with pytest.raises(ValueError, match=r"the (latent|reconstruction) of a video .*\(1, (3|8), "):
        list(streaming.decoded(vae, latents, tuple(video.shape)))


@pytest.mark.parametrize("given", [0, 13, 18, 40])
def test_a_source_that_gives_another_number_of_frames_is_named(given: int) -> None:
    clip = replace(clip_of(frames_of(given)), file="short.mp4")
    with pytest.raises(ValueError, match=f"short.mp4: the data source gave {given} frames instead of 17"):
        statistics(wfvae.tiny(mode="streamed"), clip, 17)


# --- several protocols, pieces ---------------------------------------------------------------------------------------


def test_protocols_of_a_streamed_run_are_measured_one_by_one_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["num_frames=5", "size=32", "clips=1", "metrics=psnr", "vaes=wfvae/tiny", "mode=streamed"]
    assert cli.main(["run", *words, "protocol=default,default-mp4v"]) == 0
    assert "default-mp4v: clips are reconstructed again" in capsys.readouterr().err
    together = {record.config["protocol"]: record.scores for record in records.read_all(Path("runs/results"))}
    for name, scores in together.items():
        assert cli.main(["run", *words, f"protocol={name}", f"results={name}", f"runs={name}"]) == 0
        assert [record.scores for record in records.read_all(Path(name))] == [scores]


def test_a_factory_of_modes_is_evaluated_streamed() -> None:
    given: dict[str, Any] = {"clips": 1, "num_frames": 17, "size": 32, "metrics": ["psnr"]}
    make = InMemory.of(lambda mode: wfvae.tiny(mode=mode or "whole")).make
    streamed, whole = (vaebench.evaluate(make, mode=mode, **given) for mode in ("streamed", "whole"))
    assert streamed.scores["psnr"].value == pytest.approx(whole.scores["psnr"].value, abs=1e-3)
    assert streamed.mode == "streamed"


@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), st.integers(1, 6))
def test_rechunked_pieces_are_the_same_frames_in_equal_lengths(lengths: list[int], frames: int) -> None:
    video = torch.arange(2 * 3 * sum(lengths) * 2).view(2, 3, sum(lengths), 2, 1)
    pieces = list(rechunked(video.split(lengths, dim=2), frames))
    assert [piece.shape[2] for piece in pieces[:-1]] == [frames] * (len(pieces) - 1)
    assert all(piece.is_contiguous() for piece in pieces)
    assert torch.equal(torch.cat([video[:, :, :0], *pieces], dim=2), video)


def test_two_readers_of_pieces_get_all_of_them_and_hold_only_what_one_has_not_read() -> None:
    made: list[int] = []

    def source() -> Iterator[Any]:
        for number in range(200):
            made.append(number)
            yield number

    one, other = streaming.twice(source())
    assert [next(one), next(one), next(other)] == [0, 1, 0]
    assert made == [0, 1]
    assert list(other) == list(range(1, 200))
    assert list(one) == list(range(2, 200))


def test_the_pieces_of_a_clip_are_its_frames(tmp_path: Path, sky: Path) -> None:
    write(tmp_path / "a.mp4", pictures(8))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(tmp_path / "a.mp4", "a.mp4")
    for data, root in (("bundle", ""), ("folder", tmp_path), ("shards", tmp_path), ("skytimelapse", sky)):
        for protocol in ("default", "vidtok", "tokenbench"):
            clip = next(iter(build(data, root, protocol=protocol)))
            pieces = list(clip.stream())
            assert [piece.shape[1] for piece in pieces] == [1] * 5
            assert torch.equal(torch.cat(pieces, dim=1), clip.load())
