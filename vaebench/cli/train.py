"""`vaebench train`: train WF-VAE from a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vaebench.cli.verb import HOW, Verbs
from vaebench.config import RunConfig


def add_train(verbs: Verbs) -> None:
    train = verbs.add_parser(
        "train",
        help="train WF-VAE from a recipe",
        usage="%(prog)s [-h] recipe [key=value ...]",
        description="Train WF-VAE from a recipe. Run the same command again to resume.\n"
        f"{HOW.format(key='validation.metrics', items='psnr,ssim')}\n"
        "Settings override those of the recipe; the values shown are the defaults without a recipe.",
    )
    train.listed, train.examples = "train_settings", "train"
    # optional for argparse, whose message would not say how to list the recipes
    train.add_argument(
        "recipe", nargs="?", default="", help="name of a recipe below (`vaebench list recipes`), or a YAML file"
    )
    train.add_argument("settings", nargs="*", metavar="key=value", help="the settings below")
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    if not arguments.recipe or ("=" in arguments.recipe and not Path(arguments.recipe).is_file()):
        raise ValueError(
            "name a recipe before its settings, such as `vaebench train smoke`; `vaebench list recipes` lists all recipes"
        )
    from vaebench.training.run import train

    return train(arguments.recipe, arguments.settings)


def train_all(trainings: Sequence[list[str]]) -> int:
    """Run the trainings of a preset one after another, and draw their validation curves."""
    from vaebench.distributed import rank_and_world
    from vaebench.training import config, plot
    from vaebench.training.run import train

    folders = [
        Path(config.parse(recipe, words).run) for recipe, *words in trainings
    ]  # an error stops before the first one
    for recipe, *words in trainings:
        train(recipe, words)
    if rank_and_world()[0] == 0:
        for file in plot.draw(folders, Path(RunConfig().results) / "plots"):
            print(file)
    return 0
