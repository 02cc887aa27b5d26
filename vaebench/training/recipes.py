"""The recipes of `vaebench train`: YAML files below wfvae/recipes, read without importing torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from vaebench.plugins import did_you_mean
from vaebench.settings import merge, read_yaml


def _folder() -> Path:
    spec = importlib.util.find_spec("wfvae")  # does not import it
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "recipes")


RECIPES = _folder()


def recipes() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def descriptions() -> dict[str, str]:
    """Name of a recipe -> its description, for all recipes."""
    return {name: str(read_yaml(RECIPES / f"{name}.yaml").get("description", "")) for name in recipes()}


def read_recipe(recipe: str) -> dict[str, Any]:
    """The settings of a recipe, given by name or as a YAML file, merged over those of its `base`.

    Raises:
        ValueError: unknown recipe, or not a YAML mapping
    """
    path = Path(recipe)
    if not path.suffix:
        path = RECIPES / f"{recipe}.yaml"
        if not path.is_file():
            names = recipes()
            raise ValueError(f"unknown recipe {recipe!r}{did_you_mean(recipe, names)} (there are: {', '.join(names)})")
    given = read_yaml(path)
    base = given.pop("base", "")
    return merge(read_recipe(base), given) if base else given
