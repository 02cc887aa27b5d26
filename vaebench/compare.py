"""Compare two VAEs or records on the same clips: `vaebench compare A B`, also as a regression gate for CI.

A VAE is measured by the runner first (finished cases are cached); a record is read from its JSON file.  If one of the two is a
record, the VAE is measured with the settings of that record.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adapters
from vaebench import (
    kept_pictures,
    kept_video,
    paired,
    plugins,
    protocol,
    records,
    regression,
    runner,
    side_by_side,
    tables,
)
from vaebench.choosing import choose
from vaebench.config import RunConfig, as_dict, parse_run
from vaebench.files import file_name, write_atomically
from vaebench.outcome import Outcome, report
from vaebench.paired import Change, Measured
from vaebench.records import BITS, Score
from vaebench.regression import Limit, Verdict
from vaebench.suites.reconstruction import Reconstruction
from vaebench.titles import setting_title

if TYPE_CHECKING:
    import numpy as np

FURTHEST = 3  # clips listed for each metric
WITHOUT_PICTURES = ("relay", "tokens", "latent", "efficiency", "diffusability")  # suites
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")


@dataclass(frozen=True)
class Request:
    """The arguments of `vaebench compare`."""

    words: Sequence[str]  # A and B (or B alone with a baseline), and settings key=value
    baseline: str = ""  # the record to compare with, as A
    below: Sequence[str] = ()
    above: Sequence[str] = ()
    columns: Sequence[str] = ()  # metrics; empty: all
    out: str = ""  # folder for pictures
    video: bool = False  # also save all frames of VAEs that are measured, for side-by-side videos
    junit: str = ""  # file for the verdicts
    form: str = "text"


def compare(request: Request) -> int:
    """Run the comparison and print it.

    Returns:
        0; or 1 if a limit is exceeded, or a clip or VAE failed

    Raises:
        ValueError: the arguments are invalid, or the two results cannot be compared (the message names each difference)
    """
    limits = regression.limits(request.below, request.above)
    if request.junit and not limits:
        raise ValueError("--junit writes the verdicts of limits: add --fail-below or --fail-above")
    if request.video and not request.out:
        raise ValueError("--video writes into a folder: add --out DIR")
    names = [word for word in request.words if not SETTING.match(word)]
    settings = [word for word in request.words if SETTING.match(word)]
    names = [request.baseline, *names] if request.baseline else names
    if len(names) != 2:
        given = ", ".join(names) or "none"
        raise ValueError(f"expected two VAEs or records, A and B, or one and --baseline FILE; got {given}")
    if request.baseline and not request.baseline.endswith(".json"):
        raise ValueError(f"--baseline {request.baseline}: expected the JSON file of a record")
    try:
        return _compared(request, names, settings, limits)
    except (ValueError, OSError) as reason:
        if limits:  # a CI job shows these reports, so the reason has to be in them
            _report_error(request, str(reason))
        raise


def _report_error(request: Request, reason: str) -> None:
    """Write the reports of a gate whose limits could not be checked."""
    if request.junit:
        title = f"{' '.join(request.words)} against {request.baseline}" if request.baseline else " ".join(request.words)
        _write_junit(request.junit, regression.junit_error(reason, title))
    if request.form == "json":
        print(json.dumps({"error": reason, "gate": {"passed": False, "checks": []}}, indent=1))


def _write_junit(file: str, xml: str) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(file), xml)


def _compared(request: Request, names: list[str], settings: list[str], limits: Sequence[Limit]) -> int:
    comparison = _Operands(names, settings, limits, request.columns)
    if request.out:
        comparison.check_pictures()
    a, b = comparison.measured()
    if reasons := paired.differences(a.record, b.record, request.columns):
        raise ValueError(f"{a.name} and {b.name} cannot be compared: {'; '.join(reasons)}")
    changes = paired.changes(a, b, request.columns)
    verdicts = regression.verdicts(limits, changes, a, b) if limits else []
    pictures = comparison.pictures(changes, a, b, Path(request.out), request.video) if request.out else {}
    notes = paired.notes(a.record, b.record) + _missing(a, b, changes)
    if request.form == "json":
        print(json.dumps(_plain(a, b, changes, verdicts, notes, pictures), indent=1, allow_nan=False))
    else:
        print(render(a, b, changes, verdicts, request.form), end="")
        for line in notes:
            print(f"note: {line}", file=sys.stderr)
        for file in (file for files in pictures.values() for file in files):
            print(f"picture: {file}", file=sys.stderr)
        if without := ",".join(clip for clip, files in pictures.items() if not files):
            print(f"no pictures of {without}: A or B has no saved frames; keep={without} saves them", file=sys.stderr)
    if request.junit:
        title = f"{a.record.suite}: {b.name} against {a.name}"
        _write_junit(request.junit, regression.junit(verdicts, title))
    return int(comparison.failed or any(not verdict.passed for verdict in verdicts))


class _Operands:
    """A and B: files of records, and names of VAEs to measure."""

    def __init__(
        self, names: list[str], settings: list[str], limits: Sequence[Limit], columns: Sequence[str] = ()
    ) -> None:
        self.names, self.limits, self.columns = names, limits, columns
        for name in names:
            if Path(name).is_dir() and name.partition("/")[0] not in plugins.names("adapters"):
                raise ValueError(
                    f"{name} is a folder: give the JSON file of a record, or score folders of videos with `vaebench score`"
                )
        self.files = [Path(name) if name.endswith(".json") else None for name in names]
        self.failed = False
        if any(word.startswith("vaes=") for word in settings):
            raise ValueError("vaes=: name the VAEs to compare as A and B")
        if settings and all(self.files):
            raise ValueError(
                f"{' '.join(settings)} would change nothing: A and B are records, which are not measured again"
            )
        self.config = None if all(self.files) else self._config(settings)

    def _config(self, settings: list[str]) -> RunConfig:
        """The settings of the run: given words, then those of the record among the operands, then defaults."""
        record = next((file for file in self.files if file), None)
        vaes = [name for name, file in zip(self.names, self.files, strict=True) if not file]
        # weights= belongs to the VAE of the record; the words may set it for the VAE that is measured
        words = (["weights=", *settings] if record else settings) + (["vaes=x"] if len(vaes) == 1 else [])
        config = parse_run(words, file=str(record) if record else None)
        return replace(config, vaes=vaes)

    def measured(self) -> tuple[Measured, Measured]:
        """Both results; records are read before a run could replace their files.

        Raises:
            ValueError: a record is invalid or would be replaced, or a VAE could not be measured
        """
        known = {name: paired.read(file) for name, file in zip(self.names, self.files, strict=True) if file}
        self._check(known)
        if self.config:
            self._check_target(known)
            self._check_run(self.config)
            known |= self._run(self.config)
        a, b = (known[name] for name in self.names)
        return a, b

    def check_pictures(self) -> None:
        """Raises ValueError if clips of the suite have no pictures beside their original."""
        record = next((paired.read(file).record for file in self.files if file), None)
        suite = record.suite if record else self.config.suite if self.config else ""
        if suite in WITHOUT_PICTURES:
            raise ValueError(
                f"--out draws clips beside their reconstructions, which records of the suite {suite} do not have: leave it out"
            )

    def _check(self, known: Mapping[str, Measured]) -> None:
        """Raises ValueError if the records alone show that the comparison or a limit is invalid, before a VAE is measured."""
        for name, measured in known.items():
            paired.check_metrics("AB"[self.names.index(name)], measured.record, self.columns)
            for limit in self.limits:
                regression.check(limit, list(measured.record.scores.values()))
            if self.config and (reasons := paired.settings_differ(measured.record, as_dict(self.config))):
                raise ValueError(f"{name} cannot be compared with a run of these settings: {'; '.join(reasons)}")

    def _label(self, name: str) -> str:
        """The name of a VAE in its record."""
        assert self.config
        return adapters.resolve(name, self.config.weights).label

    def _check_target(self, known: dict[str, Measured]) -> None:
        """Raises ValueError if the run would replace a record that it is compared with."""
        assert self.config
        for name, measured in known.items():
            target = records.file_of(Path(self.config.results), measured.record).resolve()
            for vae in self.config.vaes or []:
                if Path(name).resolve() == target and self._label(vae) == measured.name:
                    raise ValueError(f"the run of {vae} would replace {name}: write it elsewhere with results=DIR")

    def _check_run(self, config: RunConfig) -> None:
        """Raises ValueError if the run would give no comparison, before a clip is measured."""
        parts = runner.divided(config)
        if len(parts) > 1:
            sizes = ",".join(str(part.size) for part in parts)
            raise ValueError(f"sizes={sizes}: compare takes a single size, such as size={parts[0].size}")
        if len(protocols := protocol.load_all(config.protocol)) > 1:
            raise ValueError(
                f"protocol={config.protocol}: compare takes a single protocol, such as protocol={protocols[0].name}"
            )
        if config.fetch:  # weights are downloaded by the run
            return
        suite = plugins.find("suites", config.suite).build(parts[0])
        outcome = Outcome()
        choose(config, suite, outcome)
        for name, reason in outcome.not_ready.items():
            raise ValueError(f"not ready: {name}: {reason}")
        for name, failure in outcome.failed:
            raise ValueError(f"{name} could not be measured: {failure.reason}")
        if isinstance(suite, Reconstruction):
            self._check_metrics(suite)

    def _check_metrics(self, suite: Reconstruction) -> None:
        """Raises ValueError if a column or limit is of a metric that the run does not measure."""
        scores = [Score(0, metric.unit, metric.better, 0, metric=name) for name, metric in suite.metrics.items()]
        for name in self.columns:
            if name not in suite.metrics and not _of_some_vaes(name):
                why = suite.absent.get(name)
                near = "" if why else plugins.did_you_mean(name, list(suite.metrics))
                raise ValueError(
                    f"the run has no score {name}{f': {why}' if why else near} (it has: {', '.join(suite.metrics)})"
                )
        for limit in self.limits:
            if not _of_some_vaes(limit.key):
                regression.check(limit, scores)

    def _run(self, config: RunConfig) -> dict[str, Measured]:
        """Operand -> its result, from a run of the VAEs in `config.vaes`."""
        outcome = runner.run(config)
        report(outcome)
        if outcome.waiting:
            raise ValueError("some shards have not finished: run the same command again when they have")
        self.failed = self.failed or bool(outcome.failed)
        results: dict[str, Measured] = {}
        for name in config.vaes or []:
            if name in outcome.not_ready:
                raise ValueError(f"not ready: {name}: {outcome.not_ready[name]}")
            mine = [record for record in outcome.records if record.name == self._label(name)]
            if len(mine) != 1:
                raise ValueError(f"{name}: it could not be measured")
            results[name] = paired.read(records.file_of(Path(config.results), mine[0]))
        return results

    def pictures(
        self, changes: Sequence[Change], a: Measured, b: Measured, out: Path, video: bool
    ) -> dict[str, list[Path]]:
        """Draw the clips that differ most from frames that both records have saved.

        VAEs are run again on these clips only, to save their frames; all frames if `video` is true.

        Returns:
            clip id -> a PNG file and a video; without those for which a record has no saved frames
        """
        clips = list(dict.fromkeys(clip for change in changes for clip in change.furthest(FURTHEST)))
        if self.config and clips and self.config.suite == "reconstruction":
            options = {**self.config.options, "keep": clips, **({"keep_video": clips} if video else {})}
            which = "clip that differs" if len(clips) == 1 else f"{len(clips)} clips that differ"
            names = " and ".join(self.config.vaes or [])
            print(f"{names}: again, for the pictures of the {which} most", file=sys.stderr)
            again = runner.run(replace(self.config, options=options))
            self.failed = self.failed or bool(again.failed)
            report(replace(again, records=[]))  # the first run has reported which scores are absent
        return {clip: [*_picture(clip, a, b, out), *_video(clip, a, b, out)] for clip in clips}


def _of_some_vaes(metric: str) -> bool:
    """Whether a score is one that the suite adds for codecs or crosses."""
    return metric == BITS or metric.endswith("_vs_own_decoder")


def _stem(clip: str, a: Measured, b: Measured) -> str:
    return "-".join(["compare", a.name, b.name, clip]).replace("/", "-")


def _picture(clip: str, a: Measured, b: Measured, out: Path) -> Iterator[Path]:
    """Write the last saved frame of a clip with both reconstructions and their amplified errors, if both records have it."""
    from vaebench import plot_style
    from vaebench.plots.reconstruction import read_last, strip

    pictures = [kept_pictures.find(each.file.with_suffix(".frames"), each.record, clip) for each in (a, b)]
    files = [file for file in pictures if file]
    if len(files) < len(pictures):
        return
    sheets: dict[str, np.ndarray] = {}
    for side, measured, file in zip("AB", (a, b), files, strict=True):
        like = next(iter(sheets.values()), None)
        sheets[f"{side}: {measured.name}"] = read_last(file, measured.record.config.get("size") or 1, like)
    out.mkdir(parents=True, exist_ok=True)
    with plot_style.applied("screen"):
        yield from plot_style.save(strip(sheets, clip), out, _stem(clip, a, b), ("png",))


def _video(clip: str, a: Measured, b: Measured, out: Path) -> Iterator[Path]:
    """Write the whole clip with both reconstructions beside each other, if both records have it (`keep_video`)."""
    pairs = [kept_video.read_clip(each.file.with_suffix(".video"), each.record, clip) for each in (a, b)]
    if pairs[0] is None or pairs[1] is None:
        return
    file = out / f"{file_name(_stem(clip, a, b))}.mp4"
    shown = {
        f"{side}: {each.name}": pair.frames[1] for side, each, pair in zip("AB", (a, b), pairs, strict=True) if pair
    }
    side_by_side.write(file, pairs[0].frames[0], shown, pairs[0].fps)
    yield file


def _missing(a: Measured, b: Measured, changes: Sequence[Change]) -> list[str]:
    # without the clips of one record, it is unknown which clips it lacks
    only = zip("AB", paired.missing_clips(a, b), strict=True) if a.clips and b.clips else ()
    means = "; means are over the clips of both" if any(change.clips for change in changes) else ""
    lacking = [
        f"{change.key}: {', '.join(f'{clip} has no score in {side}' for clip, side in change.lacking.items())}; means are over the "
        "other clips"
        for change in changes
        if change.lacking
    ]
    return lacking + [f"only {side} has scores of {', '.join(clips)}{means}" for side, clips in only if clips]


def render(
    a: Measured, b: Measured, changes: Sequence[Change], verdicts: Sequence[Verdict] = (), form: str = "text"
) -> str:
    """The comparison as text that ends with a newline: a table of metrics, the clips that differ most, and verdicts.

    Args:
        form: "text" or "markdown"
    """
    import pandas as pd

    lines = [f"A: {a.name}", f"B: {b.name}", f"{a.record.suite} · {setting_title(b.record)}"]
    head = "\n\n".join(lines) if form == "markdown" else "\n".join(lines)
    table = pd.DataFrame([_row(change) for change in changes])
    text = f"{head}\n\n{tables.drawn(table, form)}"
    rows = [row for change in changes for row in _furthest(change)]
    if rows:
        text += f"\nclips that differ most\n\n{tables.drawn(pd.DataFrame(rows), form)}"
    lines = [f"{'pass' if verdict.passed else 'FAIL'}: {verdict.sentence}" for verdict in verdicts]
    return text + "".join(
        ["\n", *(f"- {line}\n" if form == "markdown" else f"{line}\n" for line in lines)] if lines else []
    )


def _row(change: Change) -> dict[str, str]:
    a, b, difference = (tables.show(score) for score in _scores(change))
    value, _, spread = difference.partition(" ")
    counts = f"{change.won()} of {change.n}" if change.clips and change.better != "neither" else "—"
    return {
        "metric": tables.title(change.key, Score(change.a, change.unit, change.better, change.n, metric=change.key)),
        "A": a,
        "B": b,
        "B - A": value,
        "95 %": spread or "—",
        "B wins": counts,
        "result": change.verdict() or (change.reason if change.low is None else "—"),
    }


def _scores(change: Change) -> tuple[Score, Score, Score]:
    """A, B and their difference for display; the difference has the interval."""
    about: dict[str, Any] = {"unit": change.unit, "better": change.better, "n": change.n, "metric": change.key}
    difference = Score(change.change, low=change.low, high=change.high, signed=True, **about)
    return Score(change.a, **about), Score(change.b, **about), difference


def _furthest(change: Change) -> list[dict[str, str]]:
    rows = []
    for clip in change.furthest(FURTHEST):
        a, b = change.clips[clip]
        single = replace(change, a=a, b=b, n=1, low=None, high=None)
        shown = [tables.show(score) for score in _scores(single)]
        rows.append({"clip": clip, "metric": change.key, **dict(zip(("A", "B", "B - A"), shown, strict=True))})
    return rows


def _plain(
    a: Measured, b: Measured, changes: Sequence[Change], verdicts: Sequence[Verdict], notes: list[str],
    pictures: dict[str, list[Path]],
) -> dict[str, Any]:  # fmt: skip
    """The comparison for JSON, numbers in full precision; a change is B minus A in the unit of the metric."""
    return {
        **{side: _who(measured) for side, measured in (("a", a), ("b", b))},
        "suite": b.record.suite,
        "setting": b.record.setting,
        "metrics": {change.key: _numbers(change) for change in changes},
        "gate": {
            "passed": all(verdict.passed for verdict in verdicts),
            "checks": [{"name": v.name, "passed": v.passed, "sentence": v.sentence} for v in verdicts],
        }
        if verdicts
        else None,
        "pictures": {clip: [str(file) for file in files] for clip, files in pictures.items()},
        "notes": notes,
    }


def _who(measured: Measured) -> dict[str, Any]:
    record = measured.record
    return {
        "vae": record.name,
        "weights": record.vae["weights"],
        "mode": record.mode,
        "commit": record.machine.get("commit", ""),
        "created": record.created,
        "failed": [vars(failure) for failure in record.failed],
    }


def _numbers(change: Change) -> dict[str, Any]:
    interval = {"stderr": change.stderr, "low": change.low, "high": change.high, "reason": change.reason}
    numbers = {"unit": change.unit, "better": change.better, "a": change.a, "b": change.b, "change": change.change}
    wins = {"b_wins": change.won(), "a_wins": change.lost()} if change.clips else {}
    clips = {clip: {"a": x, "b": y, "change": y - x} for clip, (x, y) in change.clips.items()}
    furthest = change.furthest(FURTHEST)
    return {
        **numbers,
        **interval,
        "n": change.n,
        **wins,
        "verdict": change.verdict(),
        "furthest": furthest,
        "clips": clips,
    }
