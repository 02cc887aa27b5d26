"""Other people's VAEs, metrics and sources join by a file of their own."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vaebench import plugins

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# the example that README gives a reader is the one that is tested
ADAPTER = re.findall(r"<!-- adapter -->\n```python\n(.*?)```", README, re.DOTALL)[0]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no 'pol' in adapters; did you mean 'pool'\? \(available: .*pool.*\)"):
        plugins.find("adapters", "pol")


def test_private_modules_are_no_plugins():
    for kind in plugins.PACKAGES:
        assert plugins.names(kind) == sorted(set(plugins.names(kind)))
        assert not [name for name in plugins.names(kind) if name.startswith("_")]


def test_a_package_of_somebody_else_joins_by_its_entry_point(tmp_path: Path):
    (tmp_path / "their_vae.py").write_text(ADAPTER)
    info = tmp_path / "their_vae-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-vae\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vaebench.adapters]\nhalves = their_vae\n")
    script = textwrap.dedent("""
        import sys
        from vaebench.cli import main
        code = main(["list", "adapters"]) or main([
            "run", "vaes=[halves/2]", "clips=2", "num_frames=5", "size=32", "metrics=[psnr]", "data=synthetic"])
        sys.exit(code or main(["check", "halves/2", "num_frames=9", "size=16"]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("halves/2") >= 2
    assert "keeps the contract" in done.stderr
    assert (tmp_path / "runs" / "results" / "reconstruction" / "synthetic-5x32-first2-psnr" / "halves-2.json").is_file()
