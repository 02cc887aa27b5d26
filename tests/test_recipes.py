"""Training recipes: they hold what the paper says, and every setting in them is valid."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from vaebench.training.recipes import RECIPES, read_recipe, recipes
from vaebench.training.run import parse
from wfvae import WFVAE, WFVAEConfig


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    config = parse(name, [])
    assert config.run == f"runs/train/{name}"
    assert config.description
    with torch.device("meta"):
        WFVAE(config.model)


def test_stages_are_those_of_table_7() -> None:
    one, two, three = (parse(f"stage{i}", []) for i in (1, 2, 3))
    assert [c.data.num_frames for c in (one, two, three)] == [25, 49, 49]
    assert [c.data.stride for c in (one, two, three)] == [1, 2, 2]
    assert [c.trainer.steps for c in (one, two, three)] == [800_000, 200_000, 200_000]
    assert [c.loss.perceptual for c in (one, two, three)] == [1.0, 1.0, 0.1]
    assert [c.refresh_discriminator for c in (one, two, three)] == [False, True, True]
    assert {c.model for c in (one, two, three)} == {WFVAEConfig()}


def test_sizes_and_channels_are_those_of_the_paper() -> None:
    for size, width in (("s", 128), ("m", 160), ("l", 192)):
        for channels in (4, 8, 16, 32):
            config = parse(f"{size}-{channels}", [])
            assert (config.model.base_channels, config.model.latent_channels) == (width, channels)
            assert config.model.encoder_flow_channels == config.model.decoder_flow_channels == 128


ABLATIONS = {
    "no-wl": {"loss.wavelet": 0.0},
    "wl-001": {"loss.wavelet": 0.01},
    "wl-1": {"loss.wavelet": 1.0},
    "flow-64": {"model.encoder_flow_channels": 64, "model.decoder_flow_channels": 64},
    "flow-256": {"model.encoder_flow_channels": 256, "model.decoder_flow_channels": 256},
    "groupnorm": {"model.norm": "groupnorm"},
    "no-attention": {"model.attention": "none"},
    "no-flow-l1": {"without_flow": [1]},
    "no-flow-l2": {"without_flow": [2]},
    "no-flow": {"without_flow": [1, 2]},
}


def _settings(recipe: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in asdict(parse(recipe, [])).items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if key not in ("run", "description")}


def test_an_ablation_changes_what_it_is_called_after_and_nothing_else() -> None:
    plain = _settings("s-4")
    assert {f"ablation-{name}" for name in ABLATIONS} == {name for name in recipes() if name.startswith("ablation")}
    for name, changed in ABLATIONS.items():
        found = _settings(f"ablation-{name}")
        assert {key: value for key, value in found.items() if plain[key] != value} == changed, name


def test_words_win_over_the_recipe_and_the_recipe_over_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: stage1\nmodel: {base_channels: 64}\n")
    config = parse(str(file), ["trainer.learning_rate=2e-5", "model.latent_channels=8"])
    assert config.model == WFVAEConfig(base_channels=64, latent_channels=8)
    assert config.trainer.learning_rate == 2e-5
    assert config.trainer.precision == "bf16"


def test_unknown_recipes_and_settings_name_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'stage1'"):
        read_recipe("stag1")
    with pytest.raises(ValueError, match="trainer"):
        parse("smoke", ["trainer.stepps=3"])
    with pytest.raises(ValueError, match="key=value"):
        parse("smoke", ["steps"])


def test_recipes_are_found_beside_the_package() -> None:
    assert {"stage1", "stage2", "stage3", "tiny", "smoke"} <= set(recipes())
    assert Path(RECIPES, "stage1.yaml").is_file()
