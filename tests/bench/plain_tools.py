"""What somebody would run without tasktrail: the ffmpeg program, libvips, Pillow and PDFium directly."""

import sys
from textwrap import dedent

import imageio_ffmpeg
from long_jobs import LongJob

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


def plain_command(job: LongJob) -> list[str] | None:
    """The command line, with `{out}` for the folder of its output; none where there is no like tool."""
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
        case "video_convert":
            sound = ["-c:a", "copy"]  # what ours does with sound that fits: else the ratio would be flattered
            picture = ["-vf", "scale=-2:360", "-c:v", "libx264", "-preset", str(job.options["preset"]), "-crf", "23"]
            return [*_ffmpeg(source), *picture, *sound, "-movflags", "+faststart", "{out}/out.mp4"]
        case "document_preview":
            return _python(_PDFIUM, source)
        case _:
            return None


def _python(program: str, source: str) -> list[str]:
    return [sys.executable, "-c", dedent(program), source, "{out}"]


def _ffmpeg(source: str) -> list[str]:
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-i", source]
