"""The log of a training run: CSV files, the progress bar, samples, TensorBoard and Weights & Biases."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebench.files import write_atomically


class Writer(NamedTuple):
    """One place besides the CSV files that gets the values of each step."""

    write: Callable[[int, dict[str, float]], None]
    close: Callable[[], None]
    show: Callable[[int, str, Tensor], None] = lambda step, name, image: None  # (3, H, W) in 0..1


class RunLog:
    """The files of a run and its progress bar.  After `begin`, only the main process calls it.

    `settings` are those of the whole run; `wandb` names the project that gets them, "" for none.
    """

    def __init__(self, folder: Path, steps: int, settings: Mapping[str, Any], wandb: str = "") -> None:
        self.folder, self.steps, self.settings, self.wandb = folder, steps, settings, wandb
        self.bar: Any = None
        self.named: set[str] = set()
        self.writers: list[Writer] = []

    def begin(self, step: int) -> None:
        """Opens the log at `step`, and removes the rows that a killed run wrote after its last checkpoint."""
        from tqdm import tqdm

        self.bar = tqdm(total=self.steps, initial=step, desc=self.folder.name, smoothing=0.05)
        for name in ("log.csv", "scores.csv"):
            file = self.folder / name
            if file.is_file() and (lines := file.read_text().splitlines()):
                kept = [row for row in lines[1:] if row and int(row.split(",")[0]) <= step]
                write_atomically(file, "\n".join([lines[0], *kept]) + "\n")
        failed = self.folder / "failed.txt"
        if step == 0:
            failed.unlink(missing_ok=True)
        elif failed.is_file():
            self.named = {_file_of(line) for line in failed.read_text(encoding="utf-8").splitlines()}
        self.writers = [*_tensorboard(self.folder, step), *_wandb(self.folder, self.settings, self.wandb)]

    def step(self, step: int, values: dict[str, float]) -> None:
        self.bar.update(step - self.bar.n)
        shown: dict[str, object] = {
            name: f"{values[name]:.4g}" for name in ("total", "pixel", "clips_per_s") if name in values
        }
        self.bar.set_postfix(shown, refresh=False)
        _append(self.folder / "log.csv", {"step": step, **values})
        for writer in self.writers:
            writer.write(step, values)

    def scores(self, step: int, scores: dict[str, float]) -> None:
        _append(self.folder / "scores.csv", {"step": step, **scores})
        named = {f"validation/{name}": value for name, value in scores.items()}
        for writer in self.writers:
            writer.write(step, named)

    def samples(self, step: int, image: Tensor) -> None:
        """Keeps (3, H, W) in 0..1 as a PNG, and in TensorBoard."""
        save_image(image, self.folder / "samples" / f"step-{step:08d}.png")
        for writer in self.writers:
            writer.show(step, "validation/samples", image)

    def failed(self, reasons: tuple[str, ...]) -> None:
        new: dict[str, str] = {}
        for reason in reasons:
            if (file := _file_of(reason)) not in self.named:
                new.setdefault(file, reason)
        self.named.update(new)
        if new:
            with (self.folder / "failed.txt").open("a", encoding="utf-8") as text:
                text.writelines(f"{' '.join(reason.splitlines())}\n" for reason in new.values())

    def close(self) -> None:
        for writer in self.writers:
            writer.close()  # some of them buffer, and the end of the process does not flush them
        if self.bar is not None:
            self.bar.close()
        if self.named:
            print(f"{len(self.named)} training files could not be read: {self.folder / 'failed.txt'}")


def _file_of(reason: str) -> str:
    """`clip.mp4: damaged at frame 3` and `clip.mp4: damaged at frame 5` are one file."""
    return reason.partition(": ")[0]


def _append(file: Path, values: dict[str, float]) -> None:
    """A line of a CSV; columns that a later step adds (the adversarial terms) widen the file."""
    columns: list[str] = []
    if file.is_file():
        with file.open(newline="") as text:
            columns = next(csv.reader(text), [])
    new = [name for name in values if name not in columns]
    if new and columns:
        rows = list(csv.DictReader(file.read_text().splitlines()))
        columns += new
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    with file.open("a", newline="") as text:
        writer = csv.DictWriter(text, columns or new, restval="", lineterminator="\n")
        if not columns:
            writer.writeheader()
        writer.writerow(values)


def _tensorboard(folder: Path, step: int) -> list[Writer]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return []
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # it hides that step and all later ones

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, step)

    def show(step: int, name: str, image: Tensor) -> None:
        board.add_images(name, image[None], step)

    return [Writer(write, board.close, show)]


def _wandb(folder: Path, settings: Mapping[str, Any], project: str) -> list[Writer]:
    if not project:
        return []
    try:
        import wandb
    except ImportError:
        raise ValueError(f"wandb={project} needs the package wandb: pip install wandb") from None
    note = folder / "wandb.txt"  # the id of this run: a run of the same name in another folder must not join it
    if not note.is_file():
        note.write_text(f"{uuid.uuid4().hex}\n")
    board = wandb.init(
        project=project,
        dir=str(folder),
        config=dict(settings),
        name=folder.name,
        id=note.read_text().strip(),
        resume="allow",
    )

    def write(step: int, values: dict[str, float]) -> None:
        board.log(values, step=step)

    return [Writer(write, board.finish)]


def save_image(image: Tensor, file: Path) -> None:
    """(3, H, W) in 0..1 -> a PNG."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(file)
