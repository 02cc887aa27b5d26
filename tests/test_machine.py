"""A record identifies the code that made it, however vaebench was installed."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vaebench import machine

ROOT = Path(__file__).parent.parent
ASK = "import torch; from vaebench import machine; found = machine.describe(torch.device('cpu'))\n" + (
    "import json; print(json.dumps([found.commit, found.dirty, found.packages['vaebench'], machine.__file__]))"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The packages as a wheel lays them into site-packages: no checkout around them."""
    for package in ("adapters", "vaebench", "wfvae"):
        shutil.copytree(
            ROOT / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__", "*.mp4")
        )
    return tmp_path / "site"


def described(site: Path) -> tuple[str, bool, str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, cwd=site.parent, check=True,
    )  # fmt: skip
    commit, dirty, version, file = json.loads(done.stdout)
    assert Path(file).is_relative_to(site)
    return commit, dirty, version


def test_an_installed_copy_is_identified_by_a_digest_of_its_source(installed: Path):
    first, dirty, version = described(installed)
    assert first == f"sha256:{machine.source_digest(ROOT)}"  # that of the checkout it was made from
    assert len(first) == len("sha256:") + 64
    assert not dirty
    assert version
    with (installed / "wfvae" / "recipes" / "smoke.yaml").open("a") as file:
        file.write("# another\n")
    assert machine.source_digest(installed) != machine.source_digest(ROOT)


def test_the_digest_is_of_names_and_contents(tmp_path: Path):
    (tmp_path / "wfvae").mkdir()
    (tmp_path / "wfvae" / "a.py").write_text("x = 1\n")
    (tmp_path / "wfvae" / "notes.txt").write_text("not code")
    assert machine.source_digest(tmp_path) == hashlib.sha256(b"wfvae/a.py\x006\x00x = 1\n").hexdigest()


@pytest.mark.parametrize(
    ("direct_url", "commit"),
    [
        ('{"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "' + "a" * 40 + '"}}', "a" * 40),
        ('{"url": "file:///clone", "dir_info": {}}', ""),
        ("not JSON", ""),
        (None, ""),
    ],
)
def test_the_commit_of_an_installation_from_git_is_read(
    monkeypatch: pytest.MonkeyPatch, direct_url: str | None, commit: str
):
    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return direct_url

        def locate_file(self, name: str) -> Path:
            return ROOT / name

    monkeypatch.setattr(machine.metadata, "distribution", lambda name: Distribution())
    assert machine._installed_commit(ROOT) == commit
    assert machine._installed_commit(ROOT / "elsewhere") == ""
