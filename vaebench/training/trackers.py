"""TensorBoard and Weights & Biases for a training run, by the trackers of accelerate.

They are used directly, because `wfvae.trainer` makes the `Accelerator` and does not know the loggers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import TensorBoardTracker, WandBTracker

from vaebench.video_io.notes import note


def tensorboard(folder: Path, step: int) -> TensorBoardTracker | None:
    """A tracker that writes to `folder`/tensorboard and hides what an earlier process logged after `step`.

    Returns:
        the tracker; None, with a note on stderr, if tensorboard is not installed
    """
    tracker = TensorBoardTracker("tensorboard", folder, purge_step=step + 1)  # hides that step and all later ones
    try:
        tracker.start()
    except ImportError:
        note("tensorboard is not installed, values go to log.csv only: pip install tensorboard")
        return None
    return tracker


def weights_and_biases(folder: Path, settings: Mapping[str, Any], project: str) -> WandBTracker:
    """A tracker of a W&B run, which a resumed run continues: its id is in `folder`/wandb.txt.

    Args:
        folder: folder of the run; its name is that of the W&B run
        settings: the configuration of the whole run
        project: W&B project

    Raises:
        ValueError: wandb is not installed
    """
    id_file = folder / "wandb.txt"  # a run of the same name in another folder has another id
    if not id_file.is_file():
        id_file.write_text(f"{uuid.uuid4().hex}\n")
    tracker = WandBTracker(
        project,
        dir=str(folder),
        config=dict(settings),
        name=folder.name,
        id=id_file.read_text().strip(),
        resume="allow",
    )
    try:
        tracker.start()
    except ImportError:
        raise ValueError(f"wandb={project} needs the package wandb: pip install wandb") from None
    return tracker
