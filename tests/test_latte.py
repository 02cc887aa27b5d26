"""Latte against the official model (goldens, manifests), and the properties of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.goldens_io import Golden, draw, goldens, manifests, rebuild
from vaebench.generation.latte.model import (
    SIZES,
    LabelEmbedder,
    Latte,
    LatteConfig,
    frame_positions,
    grid_positions,
    load,
    timestep_features,
)
from vaebench.generation.latte.sample import conditional, guided

TINY = LatteConfig(channels=3, frames=3, height=4, width=6, patch=2, depth=2, hidden=16, heads=2, classes=5)


def kind(name: str) -> list[Golden]:
    return goldens(lambda m: m.get("kind") == name)


def swap(x: Tensor) -> Tensor:
    """The official (B, F, C, ...) <-> ours, (B, C, F, ...)."""
    return x.transpose(1, 2)


def config_of(spec: Mapping[str, int]) -> LatteConfig:
    return LatteConfig(
        channels=spec["in_channels"], frames=spec["num_frames"], height=spec["input_size"], width=spec["input_size"],
        patch=spec["patch_size"], depth=spec["depth"], hidden=spec["hidden_size"], heads=spec["num_heads"],
        classes=spec["num_classes"] if spec["extras"] == 2 else 0, learn_sigma=bool(spec["learn_sigma"]),
    )  # fmt: skip


def official(name: str, **shape: int) -> LatteConfig:
    """The configuration of an official size and patch, such as "L/2"."""
    size, _, patch = name.partition("/")
    depth, hidden, heads = SIZES[size]
    return LatteConfig(patch=int(patch), depth=depth, hidden=hidden, heads=heads, **shape)


def golden_model(golden: Golden) -> Latte:
    with torch.device("meta"):
        model = Latte(config_of(golden.json("spec")["config"]))
    state = {k: v for k, v in rebuild(model.state_dict(), golden.salt).items() if k not in ("pos_embed", "temp_embed")}
    config = model.config
    state["pos_embed"] = grid_positions(*config.grid, config.hidden)[None]
    state["temp_embed"] = frame_positions(config.frames, config.hidden)[None]
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False)


def close(got: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("golden", kind("latte_forward"), ids=str)
def test_forward_is_the_official_one(golden: Golden) -> None:
    model, tensors = golden_model(golden), golden.tensors()
    weight = model.blocks[0].attn.qkv.weight
    close(weight.flatten()[:16], tensors["probe_recipe_blocks.0.attn.qkv.weight"], 1e-6)
    seen: dict[str, Tensor] = {}
    named = {"patch_emb": model.x_embedder, "t_emb": model.t_embedder, "final_tokens": model.final_layer}
    named |= {f"block{i}_out": block for i, block in enumerate(model.blocks)}
    if model.config.classes:
        named["y_emb"] = model.y_embedder
    for name, module in named.items():
        if name in tensors:
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    close(swap(model(swap(tensors["x"]), tensors["t"], tensors.get("y"))), tensors["out"])
    for name, out in seen.items():
        close(out.reshape(tensors[name].shape), tensors[name])


@pytest.mark.parametrize("golden", kind("latte_cfg"), ids=str)
def test_guidance_reaches_all_channels_and_the_official_four_by_name(golden: Golden) -> None:
    model, tensors = golden_model(golden), golden.tensors()
    x, t, labels = swap(tensors["x"]), tensors["t"], tensors["y_full"]
    batch, scale = len(x), golden.json("spec")["cfg_scale"]
    for half in (slice(batch), slice(batch, None)):
        close(swap(conditional(model, labels[half])(x, t)), tensors["out_raw"][half])
    # the official function returns both halves, of which sampling keeps the first
    for name, channels in (("out_all_in_channels", "all"), ("out_official_first4", "official-first-4")):
        close(swap(guided(model, labels[:batch], scale, channels=channels)(x, t)), tensors[name][:batch])


@pytest.mark.large
@pytest.mark.parametrize("golden", kind("latte_embed"), ids=str)
def test_position_and_time_tables_are_the_official_ones(golden: Golden) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    for dim, side in spec["grid"]:
        torch.testing.assert_close(grid_positions(side, side, dim), tensors[f"pos2d_d{dim}_g{side}"], rtol=0, atol=1e-6)
    for dim, frames in spec["length"]:
        torch.testing.assert_close(frame_positions(frames, dim), tensors[f"temp1d_d{dim}_n{frames}"], rtol=0, atol=1e-6)
    t = tensors["t"]
    names = [name for name in tensors if name.startswith("timestep_embedding_")]
    assert names
    for name in names:
        expected = tensors[name]
        # 999 in float32 ends at 6e-5
        torch.testing.assert_close(timestep_features(t, expected.shape[1]), expected, rtol=0, atol=1e-4)


@pytest.mark.large
@pytest.mark.parametrize("golden", kind("latte_embed"), ids=str)
def test_a_dropped_label_is_the_null_label(golden: Golden) -> None:
    tensors = golden.tensors()
    labels, null = tensors["labels"], int(tensors["labels_after_drop"].max())
    assert torch.where(tensors["force_drop_ids"] == 1, null, labels).equal(tensors["labels_after_drop"])
    width = tensors["label_emb_eval"].shape[1]
    embedder = LabelEmbedder(null, width)
    table = draw("y_embedder.embedding_table.weight", (null + 1, width), golden.salt)
    embedder.load_state_dict({"embedding_table.weight": table})
    close(embedder(labels), tensors["label_emb_eval"])
    close(embedder(tensors["labels_after_drop"]), tensors["label_emb_dropped"])


@pytest.mark.parametrize("path", manifests("manifest_latte_*.json"), ids=lambda path: path.stem)
def test_keys_and_shapes_are_those_of_the_official_state_dict(path: Path) -> None:
    manifest = json.loads(path.read_text())
    shapes = manifest["shapes"]
    channels, frames = shapes["x_embedder.proj.weight"][1], shapes["temp_embed"][1]
    table = shapes.get("y_embedder.embedding_table.weight")
    with torch.device("meta"):
        model = Latte(LatteConfig(channels, frames, classes=table[0] - 1 if table else 0))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == shapes
    assert sum(p.numel() for p in model.parameters()) == manifest["n_params_total"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == manifest["n_params_trainable"]
    assert [key for key, p in model.named_parameters() if not p.requires_grad] == manifest["frozen_parameters"]


@pytest.mark.parametrize("path", manifests("latte/param_counts.json"), ids=lambda path: path.stem)
def test_every_size_and_patch_has_the_official_number_of_parameters(path: Path) -> None:
    for name, (total, trainable) in json.loads(path.read_text())["counts"].items():
        model_name, extras = name.removeprefix("Latte-").split(" extras=")
        with torch.device("meta"):
            model = Latte(official(model_name, frames=16, classes=101 if extras == "2" else 0))
        assert sum(p.numel() for p in model.parameters()) == total, name
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable, name


@pytest.mark.parametrize("path", manifests("latte/init_stats.json"), ids=lambda path: path.stem)
def test_initial_weights_follow_the_official_distribution(path: Path) -> None:
    torch.manual_seed(0)
    config = LatteConfig(frames=16, depth=2, hidden=1024, heads=16, classes=101)
    state = Latte(config).state_dict()
    stats = json.loads(path.read_text())["stats"]
    assert set(stats) == set(state)
    for key, expected in stats.items():
        value, std = state[key], expected["std"]
        assert list(value.shape) == expected["shape"]
        assert value.std(correction=0).item() == pytest.approx(std, rel=0.03)
        assert value.mean().item() == pytest.approx(expected["mean"], abs=6 * std / value.numel() ** 0.5 + 1e-6)
        assert value.abs().max().item() == pytest.approx(expected["absmax"], rel=0.25)


def random_latte(config: LatteConfig, **options: bool) -> Latte:
    model = Latte(config, **options)
    model.load_state_dict(rebuild(model.state_dict(), keep=("pos_embed", "temp_embed")))
    return model


def random_input(config: LatteConfig, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, config.channels, config.frames, config.height, config.width)
    labels = torch.randint(config.classes, (batch,), generator=generator) if config.classes else None
    return torch.randn(shape, generator=generator), torch.randint(1000, (batch,), generator=generator), labels


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, classes=0),
        replace(TINY, channels=16, frames=1, height=6),
        replace(TINY, patch=1, learn_sigma=False),
    ],
    ids=["rectangular", "unconditional", "one frame", "patch 1"],
)
def test_any_latent_shape_goes_in_and_noise_and_variance_come_out(config: LatteConfig) -> None:
    latent, t, labels = random_input(config)
    out = random_latte(config)(latent, t, labels)
    assert out.shape == (2, config.out_channels, *latent.shape[2:])
    assert out.isfinite().all()


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    model = random_latte(TINY)
    latent, t, labels = random_input(TINY, batch=3)
    whole = model(latent, t, labels)
    for i in range(3):
        torch.testing.assert_close(model(latent[i : i + 1], t[i : i + 1], labels[i : i + 1])[0], whole[i])


def test_every_frame_and_every_position_reaches_every_other() -> None:
    model = random_latte(replace(TINY, classes=0)).double()
    latent, t, _ = random_input(model.config, batch=1)
    latent = latent.double().requires_grad_()
    model(latent, t)[0, 0, 0, 0, 0].backward()
    assert (latent.grad != 0).all()


def test_recomputed_activations_give_the_same_gradients() -> None:
    plain, recomputed = random_latte(TINY), random_latte(TINY, recompute=True)
    for model in (plain, recomputed):
        model(*random_input(TINY)).square().mean().backward()
    for (key, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        if a.requires_grad:
            assert a.grad.abs().max() > 0, key
            torch.testing.assert_close(a.grad, b.grad)


def test_the_model_compiles_as_one_graph() -> None:
    model = random_latte(TINY)
    inputs = random_input(TINY)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(*inputs), model(*inputs))


def test_bfloat16_stays_near_float32() -> None:
    model = random_latte(TINY)
    inputs = random_input(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    close(out.float(), model(*inputs), 0.03)


def test_a_released_checkpoint_loads_its_ema_strictly(tmp_path: Path) -> None:
    model = random_latte(TINY)
    other = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    torch.save({"model": other, "ema": model.state_dict()}, tmp_path / "latte.pt")
    inputs = random_input(TINY)
    torch.testing.assert_close(load(tmp_path / "latte.pt", TINY)(*inputs), model(*inputs))
    with pytest.raises(ValueError, match=r"1 of another shape: temp_embed \(1, 3, 16\), expected \(1, 5, 16\)$"):
        load(tmp_path / "latte.pt", replace(TINY, frames=5))
    with pytest.raises(
        ValueError, match=r"latte\.pt does not fit Latte: 1 unexpected: y_embedder.embedding_table.weight$"
    ):
        load(tmp_path / "latte.pt", replace(TINY, classes=0))


@pytest.mark.parametrize("content", [b"", b"text", [1, 2], {"ema": {"step": 3}}], ids=["empty", "text", "list", "step"])
def test_a_file_of_something_else_is_refused_by_name(content: object, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"other\.pt (cannot be read as weights|holds no state dict)"):
        load(file, TINY)
    torch.save(random_latte(TINY).state_dict(), file)
    file.write_bytes(file.read_bytes()[:2000])  # cut short
    with pytest.raises(ValueError, match=r"other\.pt cannot be read as weights"):
        load(file, TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch": 4}, "patches of 4 do not tile latents of 4 x 6"),
        ({"heads": 3}, "16 and 3 heads"),
        ({"depth": 3}, "must be even, got 3"),
    ],
)
def test_an_impossible_model_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **wrong)


def test_wrong_inputs_are_refused_with_both_shapes() -> None:
    model = random_latte(TINY)
    latent, t, labels = random_input(TINY)
    with pytest.raises(ValueError, match=r"\(B, 3, 3, 4, 6\), got \(2, 3, 2, 4, 6\)"):
        model(latent[:, :, :2], t, labels)
    with pytest.raises(ValueError, match="5 classes and needs labels"):
        model(latent, t)
    unconditional = random_latte(replace(TINY, classes=0))
    with pytest.raises(ValueError, match="takes no labels"):
        unconditional(latent, t, labels)
    with pytest.raises(ValueError, match="unconditional: sample it as it is"):
        guided(unconditional, labels, 7.0)
