"""`vaebench train RECIPE key=value ...`: a recipe, the training clips and the benchmark's metrics, handed to `wfvae.trainer`.

A recipe is a YAML file of `TrainConfig`; with `base: NAME` it only says what it changes of another one.  A run lives in one folder:

    config.yaml    the whole configuration; started again with another one, the run refuses (except for the settings of FREE)
    lock           the process that trains here: a second training in this folder is refused
    log.csv        one line per step, the columns named in the first
    scores.csv     one line per validation
    failed.txt     training files that the main process could not read, each once, with the reason; log.csv counts those of all
    checkpoints/   see `wfvae.state`
    tensorboard/   if tensorboard is installed; Weights & Biases likewise, with `wandb=PROJECT` (its run's id: wandb.txt)
    samples/       strips of references above their reconstructions, at each validation
"""

from __future__ import annotations

import csv
import json
import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from torch import Tensor

from vaebench import config as settings
from vaebench import plugins, weights
from vaebench.data._training import TrainingClips, TrainingData
from vaebench.metrics import Metric, _lpips
from vaebench.plugins import did_you_mean
from vaebench.video import to_model, to_score
from wfvae import WFVAE, WFVAEConfig, state
from wfvae import trainer as wf
from wfvae.losses import LossConfig
from wfvae.processes import launched, locked
from wfvae.regularizers import LCRConfig, LMRConfig
from wfvae.schedule import TrainerConfig
from wfvae.start import carry_wavelets, close_flow

RECIPES = Path(wf.__file__).parent / "recipes"
# Settings that a run may change when it goes on: where it lies, how long it trains, and what is kept and shown of it.  With
# trainer.decay=cosine, another trainer.steps changes the learning rate of the steps that are left, but not of those done.
FREE = (
    "run",
    "wandb",
    "device",
    *(f"trainer.{name}" for name in ("steps", "workers", "save_every", "validate_every", "keep")),
)


@dataclass(frozen=True)
class Validation:
    """On what the weights are judged while they train; `metrics` are the benchmark's, the first chooses the best."""

    data: str = "bundle"  # a source of clips, as in `vaebench run`; "": no validation
    root: str = ""
    manifest: str = ""
    clips: int = 0  # the first so many; 0: all
    num_frames: int = 17
    size: int = 256
    metrics: list[str] = field(default_factory=lambda: ["psnr"])
    samples: int = 4  # strips to keep


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run."""

    run: str = "runs/train"  # its folder
    description: str = ""
    model: WFVAEConfig = field(default_factory=WFVAEConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    lcr: LCRConfig = field(default_factory=LCRConfig)
    lmr: LMRConfig = field(default_factory=LMRConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    data: TrainingData = field(default_factory=TrainingData)
    validation: Validation = field(default_factory=Validation)
    initial: Literal["random", "wavelets"] = "random"  # see `wfvae.start`
    without_flow: list[int] = field(default_factory=list)  # levels (1, 2) whose energy flow is closed, for ablations
    start_from: str = ""  # a checkpoint of the stage before
    refresh_discriminator: bool = False  # do not take its discriminator over
    device: Literal["auto", "cpu"] = "auto"
    wandb: str = ""  # a project, to log there as well


def recipes() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(recipe: str) -> dict[str, Any]:
    """A name below wfvae/recipes, or a YAML file -> its settings, those of its `base` included."""
    path = Path(recipe)
    if not path.suffix:
        path = RECIPES / f"{recipe}.yaml"
        if not path.is_file():
            names = recipes()
            raise ValueError(f"no recipe {recipe!r}{did_you_mean(recipe, names)} (there are: {', '.join(names)})")
    given = settings.read_yaml(path)
    base = given.pop("base", "")
    return settings.merge(read_recipe(base), given) if base else given


def parse(recipe: str, overrides: Sequence[str]) -> TrainConfig:
    """The settings of a recipe, with the `key=value` words over them.

    Raises:
        ValueError: unknown recipe or setting, invalid value
    """
    given = read_recipe(recipe)
    given.setdefault("run", f"runs/train/{Path(recipe).stem}")
    given = settings.merge(given, settings.from_words(overrides))
    return settings.options(TrainConfig, given)


def train(recipe: str, overrides: list[str]) -> int:
    """Starts the run of a recipe, or goes on with it where it stopped; 0 when it reached its last step."""
    return run(parse(recipe, overrides))


def run(config: TrainConfig) -> int:
    if config.refresh_discriminator and not config.start_from:
        raise ValueError(
            "this recipe goes on from the checkpoint of an earlier stage: say start_from=CHECKPOINT, "
            "or refresh_discriminator=false to train its settings from random weights"
        )
    with locked(Path(config.run)):
        return _run(config)


def _run(config: TrainConfig) -> int:
    folder = Path(config.run)
    _claim(folder, config)
    perceptual = _perceptual(config)
    torch.manual_seed(config.trainer.seed)
    model = WFVAE(config.model)
    index = Path(config.data.index or folder / "files.csv")
    group = config.trainer.batch * int(os.environ.get("WORLD_SIZE", "1"))  # of all processes
    clips = TrainingClips(config.data, index, config.trainer.seed, group)
    log = RunLog(folder, config)
    if config.initial == "wavelets":
        plain = replace(config.data, augment="none", zoom=1.0, synthetic=0.0, cache="none")
        start = TrainingClips(plain, index, config.trainer.seed + 1)
        carry_wavelets(model, [start[i].video[None] for i in range(64)])
    close_flow(model, config.without_flow)
    hooks = wf.Hooks(log.step, log.failed, _validator(config, log) if config.validation.data else None)
    trainer = wf.Trainer(
        model,
        clips,
        folder,
        config.trainer,
        config.loss,
        config.lcr,
        config.lmr,
        perceptual,
        hooks,
        config.device == "cpu",
    )
    if config.start_from:
        wf.start_from(trainer, Path(config.start_from), config.refresh_discriminator)
        close_flow(model, config.without_flow)  # it may have been open in that checkpoint
    if trainer.accelerator.is_main_process:
        log.begin(trainer.step)
        log.failed(clips.unreadable)
    try:
        trainer.train()
    finally:
        log.close()
    return 0


def _claim(folder: Path, config: TrainConfig) -> None:
    """One folder, one configuration, up to the settings of FREE: a resumed run that silently changed would be neither of the two.

    A run that stopped before its first checkpoint has no claim.  All processes of a run come here, and the main process writes.

    Raises:
        ValueError: the folder holds a run with another configuration
    """
    text = yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False)
    file = folder / "config.yaml"
    before = file.read_text() if file.is_file() else ""
    if before == text:
        return
    if before and state.checkpoints(folder):
        old, new = (_flat(yaml.safe_load(settings)) for settings in (before, text))
        changed = [
            f"{name}={old.get(name)} there, {new.get(name)} here"
            for name in sorted(old.keys() | new.keys())
            if name not in FREE and old.get(name) != new.get(name)
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a run with another configuration ({'; '.join(changed)}); choose another run=DIR"
            )
    if launched()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"trainer": {"steps": 4}} -> {"trainer.steps": 4}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _perceptual(config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor] | None:
    """LPIPS with VGG16, as the paper trains with; ValueError with the ways out where its weights are not here."""
    if not config.loss.perceptual:
        return None
    network = _lpips.package("vgg")
    try:
        _lpips.fill(network, weights.verified("vgg16"))
    except OSError as reason:
        raise ValueError(f"{reason}; or say `loss.perceptual=0` to train without LPIPS") from None

    def distance(reference: Tensor, reconstruction: Tensor) -> Tensor:
        there = network.to(reference.device)  # each process has its own GPU
        found: Tensor = there(reference, reconstruction).flatten()
        return found

    return distance


class Writer(NamedTuple):
    write: Callable[[int, dict[str, float]], None]
    close: Callable[[], None]


class RunLog:
    """The files of a run, and the progress bar; on the main process only, from `begin` on."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder, self.config = folder, config
        self.bar: Any = None
        self.named: set[str] = set()
        self.writers: list[Writer] = []

    def begin(self, step: int) -> None:
        """Forgets what a killed run logged after its last checkpoint."""
        from tqdm import tqdm

        self.bar = tqdm(total=self.config.trainer.steps, initial=step, desc=self.folder.name, smoothing=0.05)
        for name in ("log.csv", "scores.csv"):
            file = self.folder / name
            if file.is_file() and (lines := file.read_text().splitlines()):
                kept = [row for row in lines[1:] if row and int(row.split(",")[0]) <= step]
                file.write_text("\n".join([lines[0], *kept]) + "\n")
        failed = self.folder / "failed.txt"
        if step == 0:
            failed.unlink(missing_ok=True)
        elif failed.is_file():
            self.named = {_file_of(line) for line in failed.read_text(encoding="utf-8").splitlines()}
        self.writers = [*_tensorboard(self.folder, step), *_wandb(self.config)]

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
            writer.close()  # they write from time to time, and the end of a process is not such a time
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

    return [Writer(write, board.close)]


def _wandb(config: TrainConfig) -> list[Writer]:
    if not config.wandb:
        return []
    try:
        import wandb
    except ImportError:
        raise ValueError(f"wandb={config.wandb} needs the package wandb: pip install wandb") from None
    folder = Path(config.run)
    note = folder / "wandb.txt"  # of this very run: another one of the folder's name must not be joined to it
    if not note.is_file():
        note.write_text(f"{uuid.uuid4().hex}\n")
    board = wandb.init(
        project=config.wandb,
        dir=config.run,
        config=asdict(config),
        name=folder.name,
        id=note.read_text().strip(),
        resume="allow",
    )

    def write(step: int, values: dict[str, float]) -> None:
        board.log(values, step=step)

    return [Writer(write, board.finish)]


def _validator(config: TrainConfig, log: RunLog) -> Callable[[int, WFVAE], dict[str, float]]:
    """Scores of the posterior's mode on whole clips in -1..1, by the benchmark's own metric modules."""
    given = config.validation
    source_config = settings.RunConfig(
        data=given.data,
        root=given.root,
        manifest=given.manifest,
        num_frames=given.num_frames,
        size=given.size,
    )
    source = plugins.find("data", given.data).build(source_config)
    clips = list(source)[: given.clips or None]
    if not clips or not given.metrics:
        raise ValueError("validation needs at least one clip and one metric; validation.data= (empty) does without")
    r = config.model.temporal_compression
    if given.num_frames % r != 1 or given.size % 8:
        raise ValueError(
            f"validation takes 1 + {r}k frames and a size that is a multiple of 8, "
            f"got validation.num_frames={given.num_frames} and validation.size={given.size}"
        )
    metrics: dict[str, Metric] = {name: plugins.find("metrics", name).build("cpu") for name in given.metrics}

    def validate(step: int, model: WFVAE) -> dict[str, float]:
        where = next(model.parameters()).device
        statistics: dict[str, list[Tensor]] = {name: [] for name in metrics}
        strips = []
        for i, clip in enumerate(clips):
            video = to_model(clip.load())[None]
            reference = to_score(video)  # before the model runs: on a CPU it is given this very tensor
            reconstruction = to_score(model.decode(model.encode(video.to(where)).mode()).cpu())
            for name, metric in metrics.items():
                statistics[name].append(metric.measure(reference, reconstruction))
            if i < given.samples:
                strips.append(strip(reference, reconstruction))
        scores = {name: metrics[name].reduce(torch.cat(found).numpy()) for name, found in statistics.items()}
        if strips:
            save_image(torch.cat(strips, dim=1), log.folder / "samples" / f"step-{step:08d}.png")
        log.scores(step, scores)
        signed = [-scores[name] if metrics[name].better == "lower" else scores[name] for name in scores]
        return {"score": signed[0], **scores} if not math.isnan(signed[0]) else scores

    return validate


def strip(reference: Tensor, reconstruction: Tensor, count: int = 4) -> Tensor:
    """(1, 3, T, H, W) in 0..1, twice -> (3, 2H, count * W): frames spread over the clip, references above."""
    frames = torch.linspace(0, reference.shape[2] - 1, count).round().long()
    rows = [video[0, :, frames].permute(0, 2, 1, 3).flatten(2) for video in (reference, reconstruction)]
    return torch.cat(rows, dim=1)


def save_image(image: Tensor, file: Path) -> None:
    """(3, H, W) in 0..1 -> a PNG."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(file)
