"""Small runs of the reconstruction suite in the current folder, and what they leave there."""

from pathlib import Path

from vaebench import cli, records

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "vaebench" / "data" / "bundle"
SMALL = ["num_frames=5", "size=32", "metrics=[psnr,flicker]"]


def run(*words: str) -> int:
    return cli.main(["run", *SMALL, *words])


def record(setting: str = "bundle-5x32", name: str = "pool-4x8x8", metrics: str = "psnr+flicker") -> records.Record:
    """The record of this VAE in the folder of that setting."""
    files = Path("runs/results/reconstruction").glob(f"{setting}-{metrics}/{name}.json")
    return records.read(max(files, key=lambda file: file.stat().st_mtime_ns))  # of the folder as it is now


def stores() -> list[Path]:
    """The folders of finished cases, beside the results."""
    return [folder for folder in Path("runs").iterdir() if folder.name != "results"]


def kept() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path("runs").rglob("*.npz")}
