"""The log of a training run: CSV files, images, the progress bar, TensorBoard and Weights & Biases.

The CSV files are written by hand: accelerate has no tracker for them, `plot --training` reads them, and a resumed run drops their
rows after its checkpoint.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchvision.utils import save_image

from vaebench.files import write_atomically
from vaebench.progress import Progress

if TYPE_CHECKING:
    from accelerate.tracking import TensorBoardTracker, WandBTracker


LOG = "log.csv"


class RunLog:
    """The log files of a run, its trackers and its progress bar.  Only the main process calls `begin` and what follows it.

    Args:
        folder: folder of the run
        steps: last step of the run, for the progress bar
        settings: the configuration of the whole run, for Weights & Biases
        wandb: Weights & Biases project; "" = none
    """

    def __init__(self, folder: Path, steps: int, settings: Mapping[str, Any], wandb: str = "") -> None:
        self.folder, self.steps, self.settings, self.wandb = folder, steps, settings, wandb
        self.progress: Progress | None = None
        self.unreadable: set[str] = set()  # names of the files in failed.txt
        self.tensorboard: TensorBoardTracker | None = None
        self.trackers: list[TensorBoardTracker | WandBTracker] = []

    def begin(self, step: int) -> None:
        """Opens the log at `step`, and removes the rows that a killed run wrote after its last checkpoint.

        The trackers need accelerate's state, so the trainer is made before.

        Raises:
            ValueError: `wandb` is set and the package wandb is not installed
        """
        from vaebench.training import trackers  # accelerate is slow to import

        if self.wandb:
            self.trackers.append(trackers.weights_and_biases(self.folder, self.settings, self.wandb))
        self.tensorboard = trackers.tensorboard(self.folder, step)
        if self.tensorboard is not None:
            self.trackers.append(self.tensorboard)
        self.progress = Progress(self.folder.name, self.steps, "steps", done=step)
        for name in (LOG, "scores.csv"):
            _truncate(self.folder / name, step)
        failed = self.folder / "failed.txt"
        if step == 0:
            failed.unlink(missing_ok=True)
        elif failed.is_file():
            self.unreadable = {_file_of(line) for line in failed.read_text(encoding="utf-8").splitlines()}

    def step(self, step: int, values: dict[str, float]) -> None:
        """Logs the values of a training step."""
        assert self.progress is not None
        shown = (f"{name}={values[name]:.4g}" for name in ("total", "pixel", "clips_per_s") if name in values)
        self.progress.show(", ".join(shown))
        self.progress.update(step - self.progress.done)
        _append(self.folder / LOG, {"step": step, **values})
        for tracker in self.trackers:
            tracker.log(values, step)

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Logs the scores of a validation."""
        _append(self.folder / "scores.csv", {"step": step, **scores})
        for tracker in self.trackers:
            tracker.log({f"validation/{name}": value for name, value in scores.items()}, step)

    def samples(self, step: int, image: Tensor) -> None:
        """Saves an image (3, H, W) in 0..1 as a PNG and shows it in TensorBoard."""
        file = self.folder / "samples" / f"step-{step:08d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, file)
        if self.tensorboard is not None:
            self.tensorboard.log_images({"validation/samples": image[None]}, step)

    def failed(self, reasons: tuple[str, ...]) -> None:
        """Adds training files that cannot be read to failed.txt, each file once.  A reason is `FILE: what is wrong`."""
        new: dict[str, str] = {}
        for reason in reasons:
            if (file := _file_of(reason)) not in self.unreadable:
                new.setdefault(file, reason)
        self.unreadable.update(new)
        if new:
            with (self.folder / "failed.txt").open("a", encoding="utf-8") as text:
                text.writelines(f"{' '.join(reason.splitlines())}\n" for reason in new.values())

    def close(self) -> None:
        """Flushes the trackers and closes the progress bar; prints how many training files could not be read."""
        for tracker in self.trackers:
            tracker.finish()
        if self.progress is not None:
            self.progress.close()
        if self.unreadable:
            print(f"{len(self.unreadable)} training files could not be read: {self.folder / 'failed.txt'}")


def _file_of(reason: str) -> str:
    """`clip.mp4: damaged at frame 3` and `clip.mp4: damaged at frame 5` are one file."""
    return reason.partition(": ")[0]


def _truncate(file: Path, step: int) -> None:
    """Removes the rows of a CSV after `step`, and a last line that was written in part."""
    if file.is_file():
        header, *rows = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] or [""]
        kept = [row for row in rows if int(row.partition(",")[0]) <= step]
        write_atomically(file, "".join([header, *kept]))


def _append(file: Path, values: dict[str, float]) -> None:
    """Appends a row to a CSV; a name that the file does not have yet (such as an adversarial term) becomes a new column."""
    columns: list[str] = []
    if file.is_file():
        with file.open(newline="") as text:
            columns = next(csv.reader(text), [])
    new = [name for name in values if name not in columns]
    if new:
        rows = list(csv.DictReader(file.read_text().splitlines())) if columns else []
        columns += new
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(file, table.getvalue())
    with file.open("a", newline="") as text:
        csv.DictWriter(text, columns, restval="", lineterminator="\n").writerow(values)
