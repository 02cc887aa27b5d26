"""The feature extractors against their official networks, with the goldens' weights; and with the real ones when present."""

from __future__ import annotations

import json
import os
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.goldens_io import Golden, draw, goldens, manifests
from vaebench.features import c3d, i3d, videomae
from vaebench.features.frechet import mean_distance


def kind(name: str) -> list[Golden]:
    return goldens(lambda m: m.get("kind") == name)


def close(got: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def weights(network: nn.Module, gain: float, special: dict[str, float], salt: str) -> dict[str, Tensor]:
    """The goldens' recipe with what these networks add: a gain on matrices, and variances of 1 + 0.1 |r|."""
    state = {}
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            state[key] = 1 + 5 * draw(key, value.shape, salt).abs()  # draw's 0.02 r
        elif value.is_floating_point():
            factor = next((f for name, f in special.items() if key.startswith(name)), gain)
            state[key] = draw(key, value.shape, salt) * (factor if value.ndim >= 2 else 1)
        else:
            state[key] = value
    return state


@cache
def i3d_network(gain: float, salt: str) -> i3d.InceptionI3d:
    network = i3d.InceptionI3d()
    network.load_state_dict(weights(network, gain, {}, salt))
    return network


@cache
def c3d_network(gain: float, fc8_gain: float, salt: str) -> c3d.C3D:
    with torch.device("meta"):
        network = c3d.C3D()
    state = weights(network, gain, {"fc8": fc8_gain}, salt)
    generator = torch.Generator().manual_seed(zlib.crc32((salt + "mean").encode()))
    state["mean"] = (100 + 10 * torch.randn(3, 16, 128, 128, generator=generator))[:, :, 8:120, 8:120]
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


def probe(x: Tensor, expected: Tensor, name: str) -> Tensor:
    """Every c-th channel and s-th position, as `..._c8_s14` says."""
    channel, space = (int(part[1:]) for part in name.split("_")[-2:])
    return x[:, ::channel, : expected.shape[2], ::space, ::space]


@pytest.mark.parametrize("golden", kind("i3d"), ids=str)
def test_i3d_has_the_official_logits_under_each_preprocessing(golden: Golden) -> None:
    tensors = golden.tensors()
    network = i3d_network(golden.json("spec")["gain"], golden.salt)
    video = tensors["video_u8_bthwc"].permute(0, 4, 1, 2, 3).float() / 255
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.clone()}))
        for name, layer in network.named_children()
    ]
    stretched = network(i3d.prepared(video, "stretched"))
    square = video.shape[3] == video.shape[4]
    cropped = stretched if square else network(i3d.prepared(video, "cropped"))
    for hook in hooks:
        hook.remove()
    close(stretched, tensors["logits_cdfvd_pre"])
    close(stretched, tensors["logits_emulated_sgv_rescale_resize"])
    close(cropped, tensors["logits_wfvae_styleganv_pre"])
    close(cropped, tensors["logits_videogpt"])
    probes = [key for key in tensors if key.startswith("videogpt_")]
    assert probes
    for key in probes:
        layer = key.removeprefix("videogpt_").rsplit("_", 2)[0]
        close(probe(seen[layer], tensors[key], key), tensors[key])


@pytest.mark.parametrize("path", manifests("manifest_i3d_videogpt.json"), ids=lambda path: path.stem)
def test_i3d_has_the_keys_and_shapes_of_the_published_file(path: Path) -> None:
    manifest = json.loads(path.read_text())
    state = i3d.InceptionI3d().state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == manifest["shapes"]


def test_stretching_and_cropping_agree_on_square_videos_and_only_there() -> None:
    video = torch.rand(1, 3, 2, 40, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(i3d.prepared(video, "stretched"), i3d.prepared(video, "cropped"))
    wide = torch.linspace(0, 1, 80).expand(1, 3, 2, 40, 80)
    full, centre = i3d.prepared(wide, "stretched"), i3d.prepared(wide, "cropped")
    assert full.shape == centre.shape == (1, 3, 2, 224, 224)
    assert full.max() > 0.98
    assert centre.max() < 0.51


def test_same_padding_of_an_odd_size_is_even_and_of_an_even_size_ends_heavier() -> None:
    x = torch.ones(1, 1, 1, 5, 6)
    padded = i3d.same(x, (1, 3, 3), (1, 2, 2))
    assert padded.shape == (1, 1, 1, 7, 7)
    assert padded[0, 0, 0, :, 3].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert padded[0, 0, 0, 3].tolist() == [1, 1, 1, 1, 1, 1, 0]


@pytest.mark.large
@pytest.mark.parametrize("golden", kind("c3d"), ids=str)
def test_c3d_has_the_official_probabilities(golden: Golden) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    network = c3d_network(spec["gain"], spec["fc8_gain"], golden.salt)
    video = tensors["video_u8_bcthw"].float() / 127.5 - 1
    close(network.prepared(video)[..., ::8, ::8], tensors["pre_probe"])
    seen: dict[str, Tensor] = {}
    hooks = [
        network.fc6.register_forward_hook(lambda _, inputs, out: seen.update(pool5=inputs[0], fc6=out)),
        network.fc7.register_forward_hook(lambda _, inputs, out: seen.update(fc7=out)),
    ]
    logits = network.logits(video)
    for hook in hooks:
        hook.remove()
    close(seen["pool5"].reshape(tensors["pool5"].shape), tensors["pool5"])
    close(seen["fc6"].relu(), tensors["fc6"].relu())
    close(seen["fc7"].relu(), tensors["fc7"].relu())
    close(logits, tensors["fc8"])
    close(logits.softmax(dim=1), tensors["prob"], 1e-4)


def test_c3d_reads_the_arrays_of_tgan_and_misses_none(tmp_path: Path) -> None:
    mean = np.zeros((3, 16, 128, 171), np.float32)
    mean[:, :, 8, 8] = 7
    arrays = {"conv1a/W": np.full((64, 3, 3, 3, 3), 2.0, np.float32), "conv1a/b": np.zeros(64, np.float32)}
    state = c3d.state_of(arrays, mean)
    assert state["mean"].shape == (3, 16, 112, 112)
    assert state["mean"][:, :, 0, 0].eq(7).all()
    assert state["conv1a.weight"].eq(2).all()
    assert set(state) == {"mean", "conv1a.weight", "conv1a.bias"}
    np.savez(tmp_path / "c3d.npz", **arrays)
    np.savez(tmp_path / "mean2.npz", mean=mean)
    with pytest.raises(ValueError, match=r"c3d\.npz with .*mean2\.npz does not fit C3D: 20 missing: conv2a\.weight"):
        c3d.load(tmp_path / "c3d.npz", tmp_path / "mean2.npz")


@pytest.mark.parametrize("golden", kind("videomae"), ids=str)
def test_videomae_has_the_official_features(golden: Golden) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    config = videomae.ViTConfig(side=spec["img"], hidden=spec["dim"], depth=spec["depth"], heads=spec["heads"])
    network = videomae.VideoMAE(config)
    network.load_state_dict({key: draw(key, value.shape, golden.salt) for key, value in network.state_dict().items()})
    close(network(tensors["x"]), tensors["features"])
    close(network.logits(tensors["x"]), tensors["logits"])


@pytest.mark.parametrize("golden", kind("videomae_pre"), ids=str)
def test_videomae_sees_what_cd_fvd_shows_it(golden: Golden) -> None:
    tensors = golden.tensors()
    video = tensors["video_u8_bthwc"].permute(0, 4, 1, 2, 3).float() / 255
    close(videomae.prepared(video)[..., ::8, ::8], tensors["pre_probe"])


@pytest.mark.parametrize("path", manifests("manifest_videomae_g_ssv2.json"), ids=lambda path: path.stem)
def test_videomae_has_the_keys_and_shapes_of_the_published_file(path: Path) -> None:
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        state = videomae.VideoMAE().state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == manifest["shapes"]
    assert sum(value.numel() for value in state.values()) == manifest["n_params_total"]


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (i3d.InceptionI3d, (1, 3, 8, 224, 224), "at least 9 frames"),
        (i3d.InceptionI3d, (1, 3, 16, 112, 112), "see `prepared`"),
        (c3d.C3D, (1, 3, 17, 64, 64), r"\(B, 3, 16, H, W\), got \(1, 3, 17, 64, 64\)"),
        (videomae.VideoMAE, (1, 3, 17, 224, 224), r"\(B, 3, 16, 224, 224\), got \(1, 3, 17, 224, 224\)"),
    ],
)
def test_videos_of_another_shape_are_refused(network: type[nn.Module], shape: tuple[int, ...], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        network()(torch.zeros(shape))


@pytest.mark.parametrize("load", [i3d.load, videomae.load, lambda path: c3d.load(path, path)])
@pytest.mark.parametrize("content", [{"something": torch.zeros(1)}, [1, 2], None], ids=["keys", "list", "empty"])
def test_another_file_is_refused_by_name(load, content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    if content is None:
        (tmp_path / "other.pt").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"other\.pt .*(do(es)? not (hold|fit)|holds no state dict|cannot be read as weights)"
    ):
        load(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pt")


def real(file: str) -> Path:
    """The published file, or a skip that says how to have it."""
    folders = [Path(os.environ.get("VAEBENCH_WEIGHTS", "")), Path.home() / ".cache" / "vaebench" / "weights"]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    pytest.skip(f"{file} is not on this machine; put it into $VAEBENCH_WEIGHTS")


@pytest.mark.parametrize(("frames", "distance"), [(10, 569.2296), (16, 152.9175), (17, 357.7404)])
@pytest.mark.parametrize("file", ["i3d_pretrained_400.pt", "i3d_torchscript.pt"])
def test_published_i3d_gives_the_published_distance_of_black_and_white(file: str, frames: int, distance: float) -> None:
    """common_metrics_on_video_quality: videos of zeros and of ones have no covariance, so FVD is |f(1) - f(-1)|^2."""
    path = real(file)
    if file == "i3d_torchscript.pt":
        script = torch.jit.load(path).eval()
        features = partial(script, rescale=False, resize=False, return_features=True)
    else:
        features = i3d.load(path)
    black, white = (features(torch.full((1, 3, frames, 224, 224), value)).numpy() for value in (-1.0, 1.0))
    assert mean_distance(black, white) == pytest.approx(distance, abs=1.0)


def test_published_videomae_and_c3d_load_strictly() -> None:
    video = torch.rand(1, 3, 16, 224, 224, generator=torch.Generator().manual_seed(0))
    network = c3d.load(real("conv3d_deepnetA_ucf.npz"), real("mean2.npz"))
    assert network(video).sum().item() == pytest.approx(1)
    assert videomae.load(real("vit_g_hybrid_pt_1200e_ssv2_ft.pth"))(video).shape == (1, 1408)
