"""README's examples work as they are printed: files beside the user, and the same files in an installed package."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vaebench import records

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL)) | {
    file.name: file.read_text(encoding="utf-8") for file in EXAMPLES
}
(PYTHON,) = re.findall(r"<!-- python -->\n```python\n(.*?)```", README, re.DOTALL)
SMALL = ["clips=2", "num_frames=4", "size=32"]


def python(code: str, cwd: Path, path: Path = ROOT, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{path}:{ROOT}", "PATH": "", "HOME": str(home or cwd), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def commands(*words: list[str]) -> str:
    return f"import sys\nfrom vaebench.cli import main\nsys.exit(any([main(words) for words in {list(words)}]))"


def test_the_readme_has_an_example_of_each_kind() -> None:
    assert FILES.keys() == {"halves.py", "worst.py", "noise.py", "range.py"}
    assert all(f"(tests/examples/{file.name})" in README for file in EXAMPLES)
    assert len(README.splitlines()) <= 320


def test_the_examples_run_as_files_of_the_user(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    done = python(
        commands(
            ["check", "./halves.py", "num_frames=9", "size=16"],
            ["run", "vaes=./halves.py", "data=./noise.py", "metrics=psnr,./worst.py", *SMALL],
            ["run", "--suite", "./range.py", "vaes=./halves.py,pool/1x8x8", *SMALL],
            ["run", "--suite", "./range.py", "vaes=./halves.py", *SMALL, "size=48"],
        ),
        tmp_path,
    )
    assert "meets the contract" in done.stderr
    by_metric, *by_suite = sorted(
        records.read_all(tmp_path / "runs" / "results"), key=lambda record: record.suite != "reconstruction"
    )
    assert by_metric.name == "halves/2"
    assert by_metric.scores["worst"].value < by_metric.scores["psnr"].value
    assert {record.name for record in by_suite} == {"halves/2", "pool/1x8x8"}
    assert len({record.fingerprint for record in by_suite}) == 3  # another size is measured again
    assert all(0 < record.scores["largest"].value <= 1 for record in by_suite)


def test_the_examples_run_from_an_installed_package(tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    work.mkdir()
    for name, text in FILES.items():
        (site / f"their_{name}").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    kinds = {"adapters": "halves", "metrics": "worst", "data": "noise", "suites": "range"}
    groups = [f"[vaebench.{kind}]\n{name} = their_{name}\n" for kind, name in kinds.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))
    done = python(
        commands(
            ["list"],
            ["run", "--suite", "reconstruction", "vaes=halves/2", "data=noise", "metrics=worst", *SMALL],
            ["run", "--suite", "range", "vaes=halves/2", "data=noise", *SMALL],
        ),
        work,
        site,
    )
    assert all(name in done.stdout for name in kinds.values())
    found = {record.suite: record for record in records.read_all(work / "runs" / "results")}
    assert found["reconstruction"].scores["worst"].n == 2
    assert found["range"].scores["largest"].value > 0.9


def test_the_python_example_prints_a_score_and_a_table(tmp_path: Path) -> None:
    done = python(PYTHON, ROOT, home=tmp_path)
    assert re.search(r"^\d+\.\d+ dB over 2 clips$", done.stdout, re.M)
    assert "wfvae/tiny" in done.stdout


@pytest.mark.parametrize("line", re.findall(r"`(vaebench\.[^`]+\))`", README))
def test_an_expression_in_the_text_needs_no_other_import(line: str, tmp_path: Path) -> None:
    python(f"import vaebench; {line}", tmp_path)


@pytest.mark.parametrize(
    "line", re.findall(r"^vaebench (run|train|plot|list|check|weights|manifest)\b(.*)$", README, re.M)
)
def test_every_setting_that_the_readme_shows_exists(line: tuple[str, str]) -> None:
    """Words of the form key=value in README's commands parse."""
    from vaebench.preset import choose
    from vaebench.training.config import parse

    verb, rest = line
    words = [word.strip("'\"") for word in rest.partition("#")[0].split() if "=" in word]
    if verb == "run" and "..." not in rest:
        suite = re.findall(r"--suite (\w+)", rest)
        choose([word for word in words if not word.startswith("-")], suite=suite[0] if suite else "")
    elif verb == "train":
        parse(rest.split()[0], words)


def test_the_text_is_wrapped_for_reading_in_a_terminal() -> None:
    prose = [line for line in README.splitlines() if not line.startswith(("|", "!"))]
    assert max(map(len, prose)) <= 160, textwrap.shorten(max(prose, key=len), 80)
