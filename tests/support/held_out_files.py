"""Real files that no estimate was fitted to, for testing the estimates. None is from a package used elsewhere.

If a formula fails here, add what it leaves out of account; never tune its numbers to these files.
"""

from tasktrail.demo.samples import Sample

_GRADIO = "gradio==6.31.0"
_GRADIO_FILES = "gradio/media_assets"
_PSYCHOPY = "psychopy==2026.2.5"
_PILLOW = "pillow==13.0.0"
_OCRMYPDF = "ocrmypdf==17.13.0"
_OCRMYPDF_FILES = "tests/resources"
_RST2PDF = "rst2pdf==0.105"
_MESHLAB = "pymeshlab==2025.7.post1"
_MESHLAB_FILES = "pymeshlab-2025.7.post1.data/purelib/pymeshlab/tests/sample_meshes"


def _gradio(member: str) -> Sample:
    return Sample(requirement=_GRADIO, member=f"{_GRADIO_FILES}/{member}", licence="Apache-2.0")


def _psychopy(member: str) -> Sample:
    return Sample(requirement=_PSYCHOPY, member=f"psychopy/{member}", licence="GPL-3.0-or-later", source=True)


def _pillow(name: str) -> Sample:
    return Sample(requirement=_PILLOW, member=f"Tests/images/{name}", licence="MIT-CMU", source=True)


def _ocrmypdf(name: str) -> Sample:
    return Sample(requirement=_OCRMYPDF, member=f"{_OCRMYPDF_FILES}/{name}", licence="MPL-2.0", source=True)


def _rst2pdf(name: str) -> Sample:
    return Sample(requirement=_RST2PDF, member=f"tests/reference/{name}", licence="MIT", source=True)


def _meshlab(name: str) -> Sample:
    return Sample(requirement=_MESHLAB, member=f"{_MESHLAB_FILES}/{name}", licence="GPL-3.0")


TRAILER = Sample(
    requirement="moviepy==2.2.1",
    member="docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4",
    licence="MIT",
    source=True,
)
PIER = Sample(requirement="python-ffmpeg==2.0.12", member="tests/assets/pier-39.ts", licence="MIT", source=True)
SNOW = Sample(requirement="python-ffmpeg==2.0.12", member="tests/assets/snow.ts", licence="MIT", source=True)

VIDEOS = (
    TRAILER,
    PIER,
    SNOW,
    _gradio("videos/world.mp4"),
    _gradio("videos/b.avi"),
    _psychopy("demos/coder/stimuli/jwpIntro.mp4"),
    _psychopy("demos/builder/Hardware/eyetracking_custom_cal/Bullseye_grey.mov"),
)
IMAGES = (
    _pillow("pport_g4.tif"),
    _pillow("xmp_test.jpg"),
    _pillow("iss634.webp"),
    _ocrmypdf("typewriter.png"),
    _ocrmypdf("baiona_cmyk.jpg"),
    _gradio("images/screenshot.gif"),
    _psychopy("demos/coder/iohub/eyetracking/gcCursor/images/lake.jpg"),
    Sample(
        requirement="dm_control==1.0.50",
        member="dm_control/locomotion/soccer/assets/humanoid/B_08.png",
        licence="Apache-2.0",
    ),
)
DOCUMENTS = (
    _ocrmypdf("multipage.pdf"),
    _ocrmypdf("poster.pdf"),
    _ocrmypdf("hugemono.pdf"),
    _ocrmypdf("vector.pdf"),
    _rst2pdf("sphinx-issue252.pdf"),
    _rst2pdf("test_slides.pdf"),
    Sample(requirement=_OCRMYPDF, member="docs/releasenotes/version17.md", licence="MPL-2.0", source=True),
    _psychopy("CHANGELOG.txt"),
)
OFFICE = (
    _psychopy("tests/data/trialTypes.docx"),
    _psychopy("demos/builder/Experiments/BigFiveInventory/TIPI.xlsx"),
    _psychopy("demos/builder/Experiments/navon/stimuli.pptx"),
    Sample(requirement="relatorio==1.0.0", member="relatorio/tests/test.odt", licence="GPL-3.0-or-later", source=True),
)
MODELS = (
    _gradio("models3d/Duck.glb"),
    _gradio("models3d/Fox.gltf"),
    _gradio("models3d/sofia.stl"),
    _gradio("models3d/face.obj"),
    _meshlab("bunny.obj"),
    _meshlab("colored_airplane.ply"),
    _meshlab("bone.ply"),
    Sample(
        requirement="dm_control==1.0.50", member="dm_control/suite/dog_assets/BONERibcage.stl", licence="Apache-2.0"
    ),
)
EVERY = (*VIDEOS, *IMAGES, *DOCUMENTS, *OFFICE, *MODELS)
