"""The recipes of `vaebench train`: YAML files below wfvae/recipes, read without importing torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from vaebench.plugins import did_you_mean
from vaebench.settings import merge, read_yaml


def _folder() -> Path:
    found = importlib.util.find_spec("wfvae")  # which does not import it
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0], "recipes")


RECIPES = _folder()


def recipes() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def descriptions() -> dict[str, str]:
    """The names of all recipes, with what each one trains."""
    return {name: str(read_yaml(RECIPES / f"{name}.yaml").get("description", "")) for name in recipes()}


def read_recipe(recipe: str) -> dict[str, Any]:
    """The settings of a recipe by its name or of a YAML file, including those of its `base`."""
    path = Path(recipe)
    if not path.suffix:
        path = RECIPES / f"{recipe}.yaml"
        if not path.is_file():
            names = recipes()
            raise ValueError(f"no recipe {recipe!r}{did_you_mean(recipe, names)} (there are: {', '.join(names)})")
    given = read_yaml(path)
    base = given.pop("base", "")
    return merge(read_recipe(base), given) if base else given
