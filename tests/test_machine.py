"""A record identifies the code that made it, however vaebench was installed."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("number", "version"), [(91501, "9.15.1"), (90100, "9.1.0"), (8907, "8.9.7"), (None, "")])
def test_the_version_of_cudnn_is_that_of_its_header(
    number: int | None, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: number)
    assert machine.cudnn_version(GPU) == version
    assert machine.cudnn_version(CPU) == ""


def test_a_record_from_a_cpu_has_no_facts_of_a_gpu() -> None:
    described = machine.describe(CPU)
    assert (described.driver, described.cuda, described.cudnn, described.notes) == ("", "", "", [])


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "faulty"),
    [
        ("2.9.0+cu128", "9.10.2", True),
        ("2.9.1", "9.14.0", True),
        ("2.9.1+cu130", "9.15.0", False),
        ("2.8.0+cu128", "9.10.2", False),
        ("2.10.0", "9.10.2", False),
        ("2.9.1", "", False),
    ],
)
def test_the_memory_fault_of_conv3d_is_noted_for_the_versions_that_have_it(
    torch_version: str, cudnn: str, faulty: bool
) -> None:
    notes = machine.faults_of(torch_version, cudnn)
    assert bool(notes) == faulty
    assert all("pytorch#166643" in note and "install torch 2.10" in note for note in notes)


@pytest.mark.gpu
def test_a_record_from_a_gpu_has_the_version_of_cudnn() -> None:
    described = machine.describe(GPU)
    assert int(described.cudnn.split(".")[0]) >= 8
    assert described.driver
    assert described.cuda


@pytest.mark.parametrize(
    ("given", "device", "default", "expected"),
    [
        ((None, None), GPU, False, (False, False)),
        ((None, None), GPU, True, (True, True)),
        ((False, None), GPU, True, (False, True)),
        ((True, None), GPU, False, (True, False)),
        ((None, False), CPU, True, (False, False)),
    ],
)
def test_fast_arithmetic_is_off_unless_speed_is_measured_on_a_gpu(
    given: tuple[bool | None, bool | None], device: torch.device, default: bool, expected: tuple[bool, bool]
) -> None:
    assert tuple(machine.gpu_flags(*given, device, default).values()) == expected


@pytest.mark.parametrize("name", ["tf32", "cudnn_benchmark"])
def test_a_flag_that_would_change_nothing_is_refused(name: str) -> None:
    given = {"tf32": None, "cudnn_benchmark": None, name: True}
    with pytest.raises(ValueError, match=f"{name}=true would change nothing on a CPU"):
        machine.gpu_flags(**given, device=CPU)


def test_flags_are_those_of_the_block_inside_it_alone() -> None:
    def flags() -> tuple[bool, ...]:
        return (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )

    before = flags()
    with machine.flags_set(True, True):
        assert flags() == (True, True, True)
        with machine.flags_set(False, True):
            assert flags() == (False, False, True)
        assert flags() == (True, True, True)
    assert flags() == before


def test_the_setting_of_a_run_names_its_flags() -> None:
    from vaebench.config import parse_run
    from vaebench.data import synthetic
    from vaebench.suite import video_setting

    source = synthetic.build(parse_run([]))
    plain = video_setting(parse_run([]), source)
    assert video_setting(parse_run(["tf32=true", "cudnn_benchmark=true"]), source) == f"{plain}-tf32-cudnn_benchmark"
    assert video_setting(parse_run(["tf32=false"]), source) == plain
