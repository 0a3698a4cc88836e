"""What a user would run without tasktrail: the ffmpeg program, libvips, Pillow, PDFium and Embree directly."""

import sys
from textwrap import dedent
from typing import Any

import av
import imageio_ffmpeg
from long_jobs import LongJob

_FFMPEG = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y")
_VIPS = """
    import sys, pyvips
    image = pyvips.Image.thumbnail(sys.argv[1], 4096, height=10_000_000, size="down", output_profile="srgb")
    image.webpsave(sys.argv[2] + "/out.webp", Q=85, keep="none")
"""
_PILLOW = """
    import sys
    from PIL import Image
    image = Image.open(sys.argv[1])
    image.draft(None, (640, 640))
    image.thumbnail((320, 320), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(sys.argv[2] + "/out.webp", quality=85)
"""
_FRAMES = """
    import sys
    from PIL import Image, ImageSequence
    image = Image.open(sys.argv[1])
    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    frames[0].save(sys.argv[2] + "/out.webp", save_all=True, append_images=frames[1:], duration=100, quality=85)
"""
_PDFIUM = """
    import sys, zipfile, pypdfium2
    document = pypdfium2.PdfDocument(sys.argv[1])
    with zipfile.ZipFile(sys.argv[2] + "/out.zip", "w", zipfile.ZIP_STORED) as archive:
        for number, page in enumerate(document):
            picture = page.render(scale=200 / 72).to_pil()
            with archive.open(f"page-{number + 1:04}.png", "w") as file:
                picture.save(file, format="PNG")
"""

_EMBREE = """
    import sys
    import numpy, trimesh
    from PIL import Image
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    def unit(vectors):
        return (vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True)).astype("f4")

    mesh = trimesh.load_mesh(sys.argv[1], process=False)
    corners = mesh.vertices - mesh.bounds.mean(axis=0)
    corners = numpy.ascontiguousarray(corners / numpy.linalg.norm(corners, axis=1).max(), "f4")
    faces = numpy.ascontiguousarray(mesh.faces, "i4")
    scene = EmbreeScene(robust=True)
    kept = TriangleMesh(scene, corners, faces)
    a, b, c = (corners[faces[:, corner]] for corner in range(3))
    normals = unit(numpy.cross(b - a, c - a) + 1e-12)
    ball = unit(numpy.random.default_rng(1).normal(size=(1024, 3)))
    down, across = numpy.mgrid[1:-1:800j, -1:1:800j].reshape(2, -1, 1)
    frames = []
    for angle in numpy.arange(12) * numpy.pi / 6:
        toward = unit(numpy.array([numpy.sin(angle), -numpy.cos(angle), 0.6]))
        right = numpy.array([numpy.cos(angle), numpy.sin(angle), 0.0])
        up, lamp = numpy.cross(toward, right), unit(toward + 0.4 * numpy.cross(toward, right) - 0.4 * right)
        rays = unit(across * right + down * up - 3 * toward)
        eyes = numpy.tile((3 * toward).astype("f4"), (len(rays), 1))
        found = scene.run(eyes, rays, output=True)
        hit = numpy.flatnonzero(found["primID"] >= 0)
        facing = normals[found["primID"][hit]]
        facing = numpy.where((facing * rays[hit]).sum(axis=1, keepdims=True) > 0, -facing, facing)
        places = eyes[hit] + rays[hit] * found["tfar"][hit, None] + facing * numpy.float32(2e-4)
        near, far = numpy.full(len(hit), 0.7, "f4"), numpy.full(len(hit), 4.0, "f4")
        skies = [unit(facing + ball[(hit + n) % 1024]) for n in (0, 500)]
        sky = sum(scene.run(places, away, near, query="OCCLUDED") < 0 for away in skies)
        shade = scene.run(places, unit(lamp + 0.1 * ball[hit % 1024]), far, query="OCCLUDED") < 0
        light = numpy.full(len(rays), 0.9, "f4")
        light[hit] = 0.2 * sky * (0.7 + 0.3 * facing[:, 2]) + 0.6 * numpy.clip(facing @ lamp, 0, 1) * shade
        grey = light.reshape(400, 2, 400, 2).mean(axis=(1, 3)) ** (1 / 2.2)
        frames.append(Image.fromarray((grey * 255).clip(0, 255).astype("u1")).convert("RGB"))
    how = {"duration": 83, "loop": 0, "quality": 85, "method": 2}
    frames[0].save(sys.argv[2] + "/out.webp", save_all=True, append_images=frames[1:], **how)
"""
"""As many rays as ours for each sample: one from the eye, two to the sky, one to the lamp. One colour, flat faces."""
_FILM_CRF = 22
"""The rate factor that `video_preview` uses at its usual quality."""


def plain_command(job: LongJob) -> list[str] | None:
    """Return the command line, with `{out}` for the folder of its output; None if there is no comparable tool."""
    source = str(job.input_file)
    match job.name:
        case "image_thumbnail":
            return _python(_PILLOW, source)
        case "image_convert":
            return _python(_VIPS, source)
        case "image_convert (frames)":
            return _python(_FRAMES, source)
        case "video_thumbnail":
            return [*_ffmpeg(source), "-vf", "thumbnail=n=190,scale=640:-2", "-frames:v", "1", "{out}/out.jpg"]
        case "video_preview (sheet)":
            return [*_ffmpeg(source), "-vf", "fps=1.5,scale=320:-2,tile=8x8", "-frames:v", "1", "{out}/out.jpg"]
        case "video_preview (animation)":
            return _clips(source, job.options)
        case "model_preview":
            return _python(_EMBREE, source)
        case "video_convert":
            sound = ["-c:a", "copy"]  # as ours treats sound that fits: otherwise the ratio would be flattered
            picture = ["-vf", "scale=-2:360", "-c:v", "libx264", "-preset", str(job.options["preset"]), "-crf", "23"]
            return [*_ffmpeg(source), *picture, *sound, "-movflags", "+faststart", "{out}/out.mp4"]
        case "document_preview":
            return _python(_PDFIUM, source)
        case _:
            return None


def _clips(source: str, options: dict[str, Any]) -> list[str]:
    """Make the same seconds of the video, each found by a seek, into one film."""
    with av.open(source) as video:
        length = (video.duration or 0) / av.time_base
    count = options["clips"]
    starts = [length * (2 * number + 1) / (2 * count) - 0.5 for number in range(count)]
    inputs = [word for start in starts for word in ("-ss", f"{max(0.0, start):.3f}", "-t", "1", "-i", source)]
    each = "".join(f"[{number}:v]fps=8,scale={options['width']}:-2[c{number}];" for number in range(count))
    joined = "".join(f"[c{number}]" for number in range(count)) + f"concat=n={count}"
    how = [
        "-frames:v",
        str(8 * count),
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "medium",
        "-crf",
        str(_FILM_CRF),
        "-movflags",
        "+faststart",
    ]
    return [*_FFMPEG, *inputs, "-filter_complex", each + joined, *how, "{out}/out.mp4"]


def _python(program: str, source: str) -> list[str]:
    return [sys.executable, "-c", dedent(program), source, "{out}"]


def _ffmpeg(source: str) -> list[str]:
    return [*_FFMPEG, "-i", source]
