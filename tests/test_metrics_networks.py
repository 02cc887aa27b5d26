"""Metrics with a network: LPIPS against the lpips package on random weights, FVD and I3D distance through a stand-in file.

No released weights are needed.  The stand-ins show that files, ranges, axes and sets go where they should; their values
mean nothing and are compared only with themselves.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.test_metrics import grid, pair, score, video
from vaebench import plugins, weights
from vaebench.features import lpips as perceptual
from vaebench.features.frechet import frechet
from vaebench.metrics import fvd, i3d_l2, lpips, lpips_vgg

FILE_OF = {"lpips": "alexnet", "lpips_vgg": "vgg16", "fvd": "i3d", "i3d_l2": "i3d"}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $VAEBENCH_WEIGHTS on a machine that has no other place of weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


def vouch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file on the shelf be what the entry `name` expects."""
    entry = dataclasses.replace(weights.FILES[name], sha256=weights.digest(weights.path(name)))
    monkeypatch.setitem(weights.FILES, name, entry)


def as_torchvision(network: nn.Module) -> dict[str, Tensor]:
    """The backbone of an LPIPS network under torchvision's keys."""
    backbone = network.get_submodule("net").state_dict()
    return {"features." + key.split(".", 1)[1]: value.clone() for key, value in backbone.items()}


# --- weights that are missing or wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILE_OF)
def test_a_metric_without_its_weights_is_unavailable_and_says_how_to_get_them(name: str, shelf: Path) -> None:
    with pytest.raises(weights.Unavailable, match=f"vaebench weights fetch {FILE_OF[name]}`"):
        plugins.find("metrics", name).build("cpu")


@pytest.mark.parametrize("name", FILE_OF)
def test_a_file_that_is_not_the_known_one_gives_no_score(name: str, shelf: Path) -> None:
    (shelf / weights.FILES[FILE_OF[name]].file).write_bytes(b"something else")
    with pytest.raises(ValueError, match=rf"is not the published {FILE_OF[name]}: its sha256 is f41f3fa6"):
        plugins.find("metrics", name).build("cpu")


# --- lpips ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alex() -> nn.Module:
    """The package's own network, with a backbone of random weights."""
    torch.manual_seed(0)
    import lpips as package

    with pytest.warns(UserWarning, match="deprecated"):
        network: nn.Module = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    return network.requires_grad_(False)


@pytest.fixture
def alex_metric(alex: nn.Module, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> perceptual.LPIPS:
    """Ours, with the same backbone, read from a file as a user's would be."""
    torch.save(as_torchvision(alex), shelf / weights.FILES["alexnet"].file)
    vouch("alexnet", monkeypatch)
    return lpips.build("cpu")


def test_lpips_is_the_packages_frame_by_frame(alex: nn.Module, alex_metric: perceptual.LPIPS) -> None:
    reference, reconstruction = pair(2, 3, 3, 40, 36)
    expected = [
        np.mean([float(alex(2 * a[:, t][None] - 1, 2 * b[:, t][None] - 1)) for t in range(3)])
        for a, b in zip(reference, reconstruction, strict=True)
    ]
    got = alex_metric.measure(reference, reconstruction)
    assert got.numpy() == pytest.approx(expected, rel=1e-5)
    assert alex_metric.reduce(got.numpy()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert min(expected) > 1e-4
    assert alex_metric.measure(reference, reference).abs().max() == 0


def test_lpips_of_many_frames_is_that_of_its_pieces(alex_metric: perceptual.LPIPS) -> None:
    reference, reconstruction = pair(1, 3, 4, 512, 40)  # 1 << 19 pixels hold 25 frames: all in one piece
    long = torch.cat([reference] * 7, dim=2), torch.cat([reconstruction] * 7, dim=2)  # 28 frames: two pieces
    once = alex_metric.measure(reference, reconstruction)
    assert alex_metric.measure(*long).numpy() == pytest.approx(once.numpy(), rel=1e-5)


def test_lpips_refuses_frames_that_its_poolings_leave_nothing_of(alex_metric: perceptual.LPIPS) -> None:
    alex_metric.measure(*pair(1, 3, 1, 31, 31))
    with pytest.raises(ValueError, match="31x31 pixels, got 1 of 30x40"):
        alex_metric.measure(*pair(1, 3, 1, 30, 40))


def test_vgg_lpips_is_the_packages_network_with_the_backbone_of_the_file(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = perceptual.package("vgg")
    reference, reconstruction = pair(1, 3, 2, 20, 24)
    expected = perceptual.LPIPS(network, 16).measure(reference, reconstruction)
    torch.save(as_torchvision(network), shelf / weights.FILES["vgg16"].file)
    vouch("vgg16", monkeypatch)
    for parameter in network.get_submodule("net").parameters():
        parameter.zero_()
    monkeypatch.setattr(perceptual, "package", lambda net: {"vgg": network}[net])  # building it once is slow enough
    got = lpips_vgg.build("cpu").measure(reference, reconstruction)
    assert torch.equal(got, expected)
    assert got > 1e-4


@pytest.mark.parametrize(("net", "torchvision_name"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_the_backbone_has_torchvisions_keys_and_shapes(net: str, torchvision_name: str) -> None:
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models, torchvision_name)(weights=None).state_dict()
        ours = as_torchvision(perceptual.package(net))
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items() if key.startswith("features.")
    }


def test_a_file_with_other_keys_does_not_fill_a_backbone(alex: nn.Module, tmp_path: Path) -> None:
    state = as_torchvision(alex)
    state["features.0.weight"] = state["features.0.weight"][:, :1]
    del state["features.3.bias"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights.pth does not fit the backbone of LPIPS.*features\.3\.bias"):
        perceptual.fill(perceptual.package("alex"), tmp_path / "weights.pth")


def test_making_the_network_downloads_nothing_and_draws_no_number_of_the_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    before = torch.get_rng_state()
    perceptual.package("alex")
    assert torch.equal(torch.get_rng_state(), before)


# --- fvd and i3d_l2 ------------------------------------------------------------------------------------------------


class StandIn(nn.Module):
    """Called as I3D's file is; 400 features that know about colour, place and order in time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mix", torch.randn(3 * 2 * 4 * 4, 400, generator=torch.Generator().manual_seed(0)))
        self.mix: Tensor
        self.calls = torch.jit.annotate(int, 0)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert not rescale and not resize and return_features  # noqa: PT018 (TorchScript)
        assert x.shape[3] == 224 and x.shape[4] == 224  # noqa: PT018
        assert x.min() >= -1.0 and x.max() <= 1.0 and x.min() < 0.0  # noqa: PT018
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool3d(x, [2, 4, 4]).flatten(1) @ self.mix


@pytest.fixture
def stand_in(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = shelf / weights.FILES["i3d"].file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        torch.jit.script(StandIn()).save(str(file))
    vouch("i3d", monkeypatch)
    return file


def features(clips: Tensor) -> np.ndarray:
    frames = torch.nn.functional.interpolate(clips.transpose(1, 2).flatten(0, 1), size=(224, 224), mode="bilinear")
    stretched = (frames * 2 - 1).unflatten(0, clips.shape[0:3:2]).transpose(1, 2)
    return StandIn()(stretched, False, False, True).double().numpy()


def test_fvd_is_the_frechet_distance_of_two_sets_of_features(stand_in: Path) -> None:
    reference, reconstruction = pair(3, 3, 9, 16, 16)
    metric = fvd.build("cpu")
    statistics = metric.measure(reference, reconstruction)
    assert statistics.shape == (3, 2, 400)
    assert statistics.dtype == torch.float64
    a, b = features(reference), features(reconstruction)
    assert statistics[:, 0].numpy() == pytest.approx(a, abs=1e-4)
    assert statistics[:, 1].numpy() == pytest.approx(b, abs=1e-4)
    assert metric.reduce(statistics.numpy()) == pytest.approx(frechet(a, b), rel=1e-3)
    assert metric.reduce(statistics[:, [0, 0]].numpy()) == pytest.approx(0, abs=1e-9)
    assert not metric.per_clip


def test_i3d_l2_is_what_a_frechet_distance_of_single_clips_comes_down_to(stand_in: Path) -> None:
    reference, reconstruction = pair(3, 3, 9, 16, 16)
    expected = np.square(features(reference) - features(reconstruction)).sum(axis=1)
    metric = i3d_l2.build("cpu")
    assert metric.measure(reference, reconstruction).numpy() == pytest.approx(expected, rel=1e-3)
    assert score(metric, reference, reconstruction) == pytest.approx(expected.mean(), rel=1e-3)
    assert score(metric, reference, reference) == 0


def test_features_of_a_batch_are_those_of_its_clips(stand_in: Path) -> None:
    reference, reconstruction = pair(2, 3, 10, 12, 12)
    metric = fvd.build("cpu")
    alone = [metric.measure(a[None], b[None]) for a, b in zip(reference, reconstruction, strict=True)]
    assert torch.equal(metric.measure(reference, reconstruction), torch.cat(alone))


def test_features_of_a_reference_are_computed_once_for_all_reconstructions(stand_in: Path) -> None:
    metric = fvd.build("cpu")
    assert i3d_l2.build("cpu").i3d is metric.i3d
    reference = video(4, 1, 3, 9, 12, 12)
    other = video(5, 1, 3, 9, 12, 12)
    first = [metric.measure(reference, grid(reference * scale)) for scale in (0.9, 0.8, 0.7)]
    assert metric.i3d.network.calls == 1 + 3
    assert all(torch.equal(f[:, 0], first[0][:, 0]) for f in first)
    assert not torch.equal(metric.measure(other, reference)[:, 0], first[0][:, 0])
    assert metric.i3d.network.calls == 1 + 3 + 2
    turned = reference.reshape(1, 3, 9, 9, 16)[..., :9]  # other bytes, other shape: never taken for the first
    assert not torch.equal(metric.measure(turned, turned)[:, 0], first[0][:, 0])


@pytest.mark.parametrize("module", [fvd, i3d_l2])
def test_clips_that_i3d_is_not_defined_for_are_refused_by_name(module, stand_in: Path) -> None:
    metric = module.build("cpu")
    with pytest.raises(ValueError, match=r"at least 9 frame\(s\) .* got 8 of 16x16"):
        metric.measure(*pair(1, 3, 8, 16, 16))
    with pytest.raises(ValueError, match="square frames, got 16x20"):
        metric.measure(*pair(1, 3, 9, 16, 20))
    assert metric.min_frames == 9


def test_fvd_of_one_clip_is_refused_and_that_of_few_comes_with_a_warning(stand_in: Path) -> None:
    metric = fvd.build("cpu")
    with pytest.raises(ValueError, match="at least 2 clips, got 1"):
        metric.reduce(np.zeros((1, 2, 400)))
    assert "255 clips is biased upwards" in metric.caution(255)
    assert metric.caution(256) == ""


def test_fvd_of_few_clips_is_biased_as_the_warning_says() -> None:
    rng = np.random.default_rng(0)
    metric = fvd.FVD(None)  # type: ignore[arg-type]  # reduction needs no network
    few, many = (metric.reduce(rng.standard_normal((n, 2, 40))) for n in (64, 1024))
    assert few > 8 * many  # the truth is 0 for both
