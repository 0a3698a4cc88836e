"""A hundred films and some sound files, each with its own properties, made by the ffmpeg program.

A file has a kind, which is container and codecs, and traits, which are other properties of a film. The first trait is
the rarest so far, so that all of them occur whatever the seed; two more are drawn.
"""

import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

SECONDS = 2
LANGUAGES = ("eng", "deu", "fra", "jpn", "ara", "nld", "zho", "spa")
WORDS = (
    "At the sea",
    "Grüße aus Köln",
    "東京の夜",
    'A "quoted" title; with = and \\ and #',
    "Ça va?",
    "line one / two",
)


class Sound(msgspec.Struct, kw_only=True):
    """A sound track."""

    codec: str = ""
    """Empty: that of the kind."""
    layout: str = "stereo"
    rate: int = 48000
    language: str = ""
    title: str = ""
    marks: str = ""
    offset: float = 0.0
    """Seconds that it begins after the picture."""


class Text(msgspec.Struct, kw_only=True):
    """A track of subtitles."""

    bitmap: bool = False
    language: str = ""
    title: str = ""
    marks: str = ""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Container and codecs."""

    suffix: str
    picture: str = ""
    """Encoder of ffmpeg with its options; empty: no picture."""
    sound: str = ""
    text: str = ""
    bitmap: str = ""
    pixels: str = "yuv420p"
    size: tuple[int, int] = (160, 120)
    container: str = ""
    """More options for the file."""

    @property
    def form(self) -> str:
        """Return the container, without the names that are the same."""
        return {"m4v": "mp4", "m4a": "mp4", "3gp": "mp4", "webm": "mkv", "mka": "mkv", "m2ts": "ts"}.get(
            self.suffix, self.suffix
        )

    @property
    def webm(self) -> bool:
        """Return whether it is the restricted form of an mkv."""
        return self.suffix == "webm"


class Recipe(msgspec.Struct, kw_only=True):
    """One file."""

    number: int
    kind: Kind
    traits: list[str] = []
    size: tuple[int, int] = (160, 120)
    rate: str = "25"
    filters: list[str] = []
    """For the picture, before it is encoded."""
    how: list[str] = []
    """For its encoder."""
    pixels: str = ""
    sounds: list[Sound] = []
    texts: list[Text] = []
    tags: dict[str, str] = {}
    picture_tags: dict[str, str] = {}
    chapters: int = 0
    fonts: int = 0
    cover: str = ""
    """jpg or png."""
    offset: float = 0.0
    second: bool = False
    """Another moving picture."""
    data: bool = False
    container: list[str] = []
    turned: list[str] = []
    """How the picture has to be turned for display; written in a second pass."""

    @property
    def name(self) -> str:
        """Return the file's name, which describes its content."""
        return f"{self.number:03} {' '.join(self.traits)}.{self.kind.suffix}"


X264 = "libx264 -preset ultrafast -bf 2"
X265 = "libx265 -preset ultrafast -x265-params log-level=error:pools=none"
AV1 = "libsvtav1 -preset 12 -svtav1-params lp=1"
VP9 = "libvpx-vp9 -deadline realtime -cpu-used 8"
FILMS = (
    Kind(suffix="mkv", picture=X264, sound="aac", text="srt", bitmap="copy"),
    Kind(suffix="mp4", picture=X264, sound="aac", text="mov_text"),
    Kind(suffix="mov", picture=X264, sound="aac", text="mov_text"),
    Kind(suffix="webm", picture=VP9, sound="libopus", text="webvtt"),
    Kind(suffix="avi", picture="mpeg4 -bf 2", sound="libmp3lame"),
    Kind(suffix="ts", picture=X264, sound="aac", bitmap="dvbsub"),
    Kind(suffix="mkv", picture=X265, sound="ac3", text="ass", bitmap="dvdsub"),
    Kind(
        suffix="mp4", picture=f"{X265} -tag:v:0 hvc1", sound="eac3", text="mov_text", container="-movflags +delay_moov"
    ),
    Kind(suffix="mov", picture="prores_ks", sound="pcm_s16le", text="mov_text", pixels="yuv422p10le"),
    Kind(suffix="mkv", picture="ffv1", sound="flac", text="webvtt"),
    Kind(suffix="mpg", picture="mpeg2video -bf 2", sound="mp2", size=(176, 144)),
    Kind(suffix="ogv", picture="libtheora -q:v 5", sound="libvorbis"),
    Kind(suffix="flv", picture=X264, sound="aac"),
    Kind(suffix="webm", picture="libvpx -deadline realtime -cpu-used 8", sound="libvorbis", text="webvtt"),
    Kind(suffix="mp4", picture=AV1, sound="libopus", text="mov_text"),
    Kind(suffix="mkv", picture=AV1, sound="libopus", text="srt"),
    Kind(suffix="avi", picture="mjpeg", sound="pcm_s16le", pixels="yuvj420p"),
    Kind(suffix="3gp", picture="libx264 -preset ultrafast -profile:v:0 baseline", sound="aac"),
    Kind(suffix="mov", picture="mjpeg", sound="pcm_s24le", pixels="yuvj422p"),
    Kind(suffix="m2ts", picture="mpeg2video -bf 2", sound="ac3", container="-mpegts_m2ts_mode 1"),
    Kind(suffix="mkv", picture=VP9, sound="libvorbis", text="srt"),
    Kind(suffix="mp4", picture="mpeg4", sound="libmp3lame", text="mov_text"),
    Kind(suffix="mkv", picture="mpeg2video -bf 2", sound="ac3", text="srt", bitmap="dvdsub"),
    Kind(suffix="mkv", picture="libvpx -deadline realtime -cpu-used 8", sound="dca", text="ass"),
    Kind(suffix="mov", picture="qtrle", sound="pcm_s16be", pixels="rgb24"),
    Kind(suffix="mkv", picture="libtheora -q:v 5", sound="flac", text="ass"),
    Kind(suffix="mov", picture="dnxhd -profile:v:0 dnxhr_sq", sound="alac", pixels="yuv422p", size=(256, 144)),
    Kind(suffix="m4v", picture=X264, sound="alac", text="mov_text"),
    Kind(suffix="gif", picture="gif", pixels="rgb8"),
    Kind(suffix="wmv", picture="wmv2", sound="wmav2"),
)
SOUNDS = (
    Kind(suffix="mp3", sound="libmp3lame"),
    Kind(suffix="m4a", sound="aac"),
    Kind(suffix="flac", sound="flac"),
    Kind(suffix="ogg", sound="libvorbis"),
    Kind(suffix="opus", sound="libopus"),
    Kind(suffix="wav", sound="pcm_s16le"),
    Kind(suffix="m4a", sound="alac"),
    Kind(suffix="mka", sound="ac3"),
    Kind(suffix="wav", sound="pcm_f32le"),
    Kind(suffix="aiff", sound="pcm_s24be"),
    Kind(suffix="wma", sound="wmav2"),
    Kind(suffix="wv", sound="wavpack"),
)


# --- Traits: each changes a recipe, if its container can hold that ---

Trait: TypeAlias = Callable[[Recipe, random.Random], None]
_TAGGED = ("mkv", "mp4", "mov", "avi", "ogv", "flv", "mp3", "flac", "ogg", "opus", "wav", "aiff", "wma", "wv")
_YUV = ("yuv420p",)


def two_sounds(recipe: Recipe, chance: random.Random) -> None:
    if recipe.sounds and recipe.kind.form in ("mkv", "mp4", "mov", "ts", "avi"):
        recipe.sounds[0].language, recipe.sounds[0].marks = "eng", "default"
        marks = chance.choice(("comment", "visual_impaired", "dub", "0")) if recipe.kind.form != "avi" else ""
        recipe.sounds.append(Sound(language=chance.choice(LANGUAGES), title=chance.choice(WORDS), marks=marks))


def surround(recipe: Recipe, chance: random.Random) -> None:
    if recipe.sounds and recipe.kind.sound not in ("libmp3lame", "mp2", "wmav2") and recipe.kind.suffix != "flv":
        seven = recipe.kind.sound in ("aac", "flac", "libopus", "libvorbis", "pcm_s16le", "pcm_f32le", "eac3")
        recipe.sounds[-1].layout = chance.choice(("5.1", "7.1") if seven and recipe.kind.sound != "eac3" else ("5.1",))


def one_channel(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.sounds:
        recipe.sounds[0].layout = "mono"


def other_rate(recipe: Recipe, chance: random.Random) -> None:
    if recipe.sounds and recipe.kind.sound not in ("libopus", "ac3", "eac3", "dca", "mp2"):
        recipe.sounds[0].rate = chance.choice((44100, 22050) if recipe.kind.suffix == "flv" else (44100, 32000, 22050))


def late_sound(recipe: Recipe, chance: random.Random) -> None:
    if recipe.sounds and recipe.kind.form in ("mkv", "mp4", "mov", "ts"):
        recipe.sounds[0].offset = chance.choice((0.1, 0.37, 0.5))


def silent(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture:
        recipe.sounds = []


def text(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.text:
        first, second = chance.sample(LANGUAGES, 2)
        recipe.texts += [Text(language=first, marks="default"), Text(language=second, title=chance.choice(WORDS))]
        recipe.texts[-1].marks = chance.choice(("forced", "hearing_impaired", "0"))


def bitmaps(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.bitmap:
        recipe.texts.append(Text(bitmap=True, language=chance.choice(LANGUAGES)))


def chapters(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov", "mp3"):  # what ffmpeg writes into Ogg has other times
        recipe.chapters = 3


def fonts(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form == "mkv" and not recipe.kind.webm:
        recipe.fonts = chance.choice((1, 2))


def cover(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mp3", "flac") and not recipe.kind.webm:
        recipe.cover = chance.choice(("jpg", "png"))


def tags(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in _TAGGED:
        recipe.tags |= {"title": chance.choice(WORDS), "artist": "Ann", "comment": chance.choice(WORDS), "date": "2011"}
        recipe.tags |= {"genre": "Drama", "copyright": "© 2011 Ann", "album": "Films", "track": "3/9"}


def strange_tags(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in _TAGGED:
        recipe.tags |= {"MOOD": "calm", "Key With Spaces": chance.choice(WORDS), "ключ": "значение"}
        recipe.tags["description"] = "x" * 300
        recipe.picture_tags["NOTE"] = "second take"
        if recipe.kind.form in ("mp4", "mov"):
            recipe.container += ["-movflags", "+use_metadata_tags+delay_moov"]


def time_of_recording(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov"):
        recipe.tags["creation_time"] = "2011-11-11T11:11:11.000000Z"


def picture_said(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov", "ts"):
        recipe.picture_tags |= {"language": chance.choice(LANGUAGES), "title": chance.choice(WORDS)}


def turned(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov") and not recipe.kind.webm:
        recipe.turned = ["-display_rotation:v:0", str(chance.choice((90, 180, 270)))]


def mirrored(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.form in ("mp4", "mov"):
        recipe.turned = ["-display_rotation:v:0", "0", "-display_hflip:v:0"]


def oblong_pixels(recipe: Recipe, chance: random.Random) -> None:
    recipe.filters.append(f"setsar={chance.choice(('4/3', '16/15', '3/4', '64/45'))}")


def interlaced(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.picture.startswith(("libx264 -preset ultrafast -bf", "mpeg2video", "prores_ks", "ffv1")):
        order = chance.choice(("tff", "bff"))
        recipe.filters.append(f"setfield={order}")
        recipe.how += ["-flags", "+ilme+ildct"]
        if recipe.kind.picture.startswith("libx264"):
            recipe.how += ["-x264-params", f"{order}=1:log-level=error"]


def uneven(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov"):
        recipe.filters.append("select='not(eq(mod(n,7),2))*not(between(n,20,29))'")
        recipe.how += ["-fps_mode", "vfr"]


def deep(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith((X265, AV1, "ffv1", VP9)):
        recipe.pixels = "yuv420p10le"


def _colours(recipe: Recipe, primaries: str, transfer: str, matrix: str) -> None:
    recipe.filters.append(f"setparams=color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}")
    named = {"bt470bg": "gamma28"}.get(transfer, transfer)
    recipe.how += ["-color_primaries", primaries, "-color_trc", named, "-colorspace", matrix]


def hdr10(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith(X265):
        recipe.pixels = "yuv420p10le"
        _colours(recipe, "bt2020", "smpte2084", "bt2020nc")
        display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
        recipe.how += ["-x265-params", f"log-level=error:pools=none:hdr10=1:master-display={display}:max-cll=1000,400"]


def hlg(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith((X265, VP9, AV1)):
        recipe.pixels = "yuv420p10le"
        _colours(recipe, "bt2020", "arib-std-b67", "bt2020nc")


def television_colours(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.pixels in ("yuv420p", "yuv422p10le"):
        _colours(recipe, *chance.choice((("bt470bg", "bt470bg", "bt470bg"), ("bt709", "bt709", "bt709"))))


def full_range(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith((X264, X265)):
        recipe.filters.append("scale=in_range=tv:out_range=pc")
        recipe.how += ["-color_range", "pc"]


def odd_sides(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith(("ffv1", "mjpeg", "qtrle", VP9, "libvpx", "gif")):
        recipe.size = (155, 117)


def late_picture(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in ("mkv", "mp4", "mov", "ts", "mpg"):
        recipe.offset = chance.choice((0.5, 3.0))


def timecode(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form in ("mp4", "mov"):
        recipe.container += ["-timecode", chance.choice(("01:02:03:04", "10:00:00:00"))]


def data(recipe: Recipe, _chance: random.Random) -> None:
    recipe.data = recipe.kind.suffix == "ts"


def large(recipe: Recipe, _chance: random.Random) -> None:
    if recipe.kind.picture.startswith((X264, "mpeg4", "mjpeg")):
        recipe.size = (2048, 1152)


def second_picture(recipe: Recipe, _chance: random.Random) -> None:
    recipe.second = recipe.kind.form in ("mkv", "mp4", "mov") and not recipe.kind.webm


def quick(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.suffix != "gif" and not recipe.kind.picture.startswith("mpeg2"):
        recipe.rate = chance.choice(("50", "60"))


def ntsc(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.suffix != "gif":
        recipe.rate = chance.choice(("30000/1001", "24000/1001"))


def transparent(recipe: Recipe, _chance: random.Random) -> None:
    pixels = {VP9: "yuva420p", "prores_ks": "yuva444p10le", "qtrle": "argb", "ffv1": "yuva420p"}
    for encoder, kind in pixels.items():
        if recipe.kind.picture.startswith(encoder):
            recipe.pixels = kind
            recipe.filters.append("format=yuva420p,colorchannelmixer=aa=0.5")
            recipe.how += ["-profile:v:0", "4444"] if encoder == "prores_ks" else []


def finer_colours(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.picture.startswith((X264, "ffv1", "mjpeg")) and recipe.kind.suffix != "3gp":
        recipe.pixels = chance.choice(("yuvj444p",) if recipe.kind.picture == "mjpeg" else ("yuv422p", "yuv444p"))


def programs(recipe: Recipe, chance: random.Random) -> None:
    if recipe.kind.form == "ts":
        recipe.tags |= {"service_name": chance.choice(WORDS), "service_provider": "House"}


TRAITS: tuple[Trait, ...] = (
    *(two_sounds, surround, one_channel, other_rate, late_sound, silent, text, bitmaps, chapters, fonts, cover, tags),
    *(strange_tags, time_of_recording, picture_said, turned, mirrored, oblong_pixels, interlaced, uneven, deep, hdr10),
    *(hlg, television_colours, full_range, odd_sides, late_picture, timecode, data, large, second_picture, quick, ntsc),
    *(transparent, finer_colours, programs),
)
_OF_SOUND: tuple[Trait, ...] = (tags, cover, chapters, surround, one_channel, other_rate, strange_tags)
_EXCLUDE: tuple[set[Trait], ...] = (
    {hdr10, hlg, television_colours, transparent, full_range},
    {transparent, finer_colours, deep, hdr10, hlg},
    {silent, two_sounds, surround},
    {silent, one_channel, surround},
    {silent, other_rate},
    {silent, late_sound},
    {turned, mirrored},
    {uneven, interlaced, quick},
    {quick, ntsc},
)
"""A file has at most one of each of these, because they would contradict each other."""
MORE = 2
"""The number of traits drawn besides the first."""


def recipes(films: int, sounds: int, seed: int) -> Iterator[Recipe]:
    """Return that many films, then that many sound files."""
    for first, count, kinds, traits in ((0, films, FILMS, TRAITS), (films, sounds, SOUNDS, _OF_SOUND)):
        seen = dict.fromkeys(traits, 0)
        for place in range(count):
            yield _recipe(first + place, kinds[place % len(kinds)], seen, random.Random(f"{seed} {first + place}"))


def _recipe(number: int, kind: Kind, seen: dict[Trait, int], chance: random.Random) -> Recipe:
    """Draw a recipe. `seen`: how often each trait has occurred so far."""
    recipe = Recipe(number=number, kind=kind, size=kind.size, pixels=kind.pixels)
    if kind.sound:
        recipe.sounds.append(Sound())
    taken: list[Trait] = []
    rarest, drawn = sorted(seen, key=lambda trait: seen[trait]), chance.sample(list(seen), len(seen))
    for candidates, most in ((rarest, 1), (drawn, 1 + MORE)):
        for trait in candidates:
            if len(taken) == most:
                break
            if trait in taken or any({trait, other} <= group for group in _EXCLUDE for other in taken):
                continue
            before = msgspec.to_builtins(recipe)
            trait(recipe, chance)
            if msgspec.to_builtins(recipe) != before:
                taken.append(trait)
                seen[trait] += 1
    recipe.traits = [trait.__name__ for trait in taken]
    return recipe


# --- Making ---


def make(recipe: Recipe, folder: Path) -> Path:
    """Write the file; its ingredients are left beside it, in a folder. Raises RuntimeError."""
    path, parts = folder / recipe.name, folder / f"{recipe.number:03}.parts"
    parts.mkdir(parents=True)
    made = parts / f"made.{recipe.kind.suffix}" if recipe.turned else path
    _run([*_command(recipe, parts), str(made)])
    if recipe.turned:
        tracks = ("v", "a?", "s?", "t?")
        maps = [word for kind in tracks for word in ("-map", f"0:{kind}")]
        # The display rotation has to be repeated: it would be taken from the tracks.
        _run([*recipe.turned, "-i", str(made), *maps, "-c", "copy", *recipe.container, str(path)])
    return path


def _run(words: list[str]) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *words]
    quiet = {**os.environ, "SVT_LOG": "1"}
    done = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")


class _Inputs:
    """The inputs of a command, counted."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.count = 0

    def add(self, *words: str) -> int:
        self.words += words
        self.count += 1
        return self.count - 1


def _command(recipe: Recipe, parts: Path) -> list[str]:
    inputs, kind = _Inputs(), recipe.kind
    maps: list[str] = []
    how: list[str] = []
    if kind.picture:
        picture = f"testsrc2=size={recipe.size[0]}x{recipe.size[1]}:rate={recipe.rate}:duration={SECONDS}"
        place = inputs.add("-itsoffset", str(recipe.offset), "-f", "lavfi", "-i", picture)
        maps += ["-map", f"{place}:v"]
        how += ["-c:v:0", *kind.picture.split(), *recipe.how, "-pix_fmt:v:0", recipe.pixels]
        how += ["-filter:v:0", ",".join([*recipe.filters, f"format={recipe.pixels}"])]
        how += [word for name, value in recipe.picture_tags.items() for word in ("-metadata:s:v:0", f"{name}={value}")]
    _add_sounds(recipe, inputs, maps, how)
    if recipe.second:
        place = inputs.add("-f", "lavfi", "-i", f"testsrc=size=64x48:rate=25:duration={SECONDS}")
        maps += ["-map", f"{place}:v"]
        how += ["-c:v:1", "mpeg4", "-pix_fmt:v:1", "yuv420p"]
    _add_texts(recipe, parts, inputs, maps, how)
    if recipe.data:
        payload = parts / "data.bin"
        payload.write_bytes(bytes(range(200)))
        place = inputs.add("-f", "data", "-i", str(payload))
        maps += ["-map", f"{place}:d"]
        how += ["-c:d", "copy"]
    _add_beside(recipe, parts, inputs, maps, how)
    tags = [word for name, value in recipe.tags.items() for word in ("-metadata", f"{name}={value}")]
    return [*inputs.words, *maps, *how, *tags, *kind.container.split(), *recipe.container, "-strict", "-2"]


def _add_sounds(recipe: Recipe, inputs: _Inputs, maps: list[str], how: list[str]) -> None:
    for number, sound in enumerate(recipe.sounds):
        tone = f"sine=frequency={440 * (number + 1)}:sample_rate={sound.rate}:duration={SECONDS}"
        spread = f"{tone},aformat=channel_layouts={sound.layout}"
        place = inputs.add("-itsoffset", str(sound.offset + recipe.offset), "-f", "lavfi", "-i", spread)
        maps += ["-map", f"{place}:a"]
        how += [f"-c:a:{number}", sound.codec or recipe.kind.sound]
        how += _said("a", number, sound.language, sound.title, sound.marks)


def _add_texts(recipe: Recipe, parts: Path, inputs: _Inputs, maps: list[str], how: list[str]) -> None:
    for number, line in enumerate(recipe.texts):
        source = parts / f"text-{number}.{'sup' if line.bitmap else 'srt'}"
        if line.bitmap:
            source.write_bytes(bitmap_subtitles())
        else:
            source.write_text(LINES, encoding="utf-8")
        place = inputs.add("-i", str(source))
        maps += ["-map", f"{place}:s"]
        how += [f"-c:s:{number}", recipe.kind.bitmap if line.bitmap else recipe.kind.text]
        how += _said("s", number, line.language, line.title, line.marks)


def _said(letter: str, number: int, language: str, title: str, marks: str) -> list[str]:
    said = [f"language={language}"] * bool(language) + [f"title={title}"] * bool(title)
    words = [word for each in said for word in (f"-metadata:s:{letter}:{number}", each)]
    return words + ([f"-disposition:{letter}:{number}", marks] if marks else [])


def _add_beside(recipe: Recipe, parts: Path, inputs: _Inputs, maps: list[str], how: list[str]) -> None:
    if recipe.chapters:
        listed = parts / "chapters.txt"
        length = SECONDS * 1000 // recipe.chapters
        body = "".join(
            f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={number * length}\nEND={(number + 1) * length}\ntitle=Part {number} ü\n"
            for number in range(recipe.chapters)
        )
        listed.write_text(f";FFMETADATA1\n{body}", encoding="utf-8")
        how += ["-map_chapters", str(inputs.add("-i", str(listed)))]
    if recipe.cover:
        path = parts / f"cover.{recipe.cover}"
        _run(["-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", "1", "-update", "1", str(path)])
        if recipe.kind.form == "mkv":
            kind = {"jpg": "image/jpeg", "png": "image/png"}[recipe.cover]
            how += ["-attach", str(path), "-metadata:s:t:0", f"mimetype={kind}"]
        else:
            maps += ["-map", f"{inputs.add('-i', str(path))}:v"]
            place = int(bool(recipe.kind.picture)) + recipe.second
            how += [f"-c:v:{place}", "copy", f"-disposition:v:{place}", "attached_pic"]
    for number in range(recipe.fonts):
        path = parts / f"serif-{number}.ttf"
        path.write_bytes(b"\0\1\0\0 not much of a font")
        place = number + bool(recipe.cover)
        how += ["-attach", str(path), f"-metadata:s:t:{place}", "mimetype=font/ttf"]


LINES = "1\n00:00:00,200 --> 00:00:00,900\nHello <i>you</i>\nthere\n\n2\n00:00:01,000 --> 00:00:01,800\nGrüße, 世界\n\n"


def bitmap_subtitles() -> bytes:
    """Write one picture of 8 x 2 pixels, shown from 0.2 to 0.9 s, as a Blu-ray stores it."""
    width, height = 8, 2
    row = bytes([1] * width) + b"\0\0"
    pixels = row * height
    shown = struct.pack(">HHBHBBBB", 160, 120, 0x10, 0, 0x80, 0, 0, 1) + struct.pack(">HBBHH", 0, 0, 0, 10, 100)
    window = struct.pack(">BBHHHH", 1, 0, 10, 100, width, height)
    palette = bytes([0, 0, 1, 235, 128, 128, 255])
    size = (len(pixels) + 4).to_bytes(3, "big")
    picture = struct.pack(">HBB", 0, 0, 0xC0) + size + struct.pack(">HH", width, height) + pixels
    gone = struct.pack(">HHBHBBBB", 160, 120, 0x10, 1, 0, 0, 0, 0)
    first = [(0x16, shown), (0x17, window), (0x14, palette), (0x15, picture), (0x80, b"")]
    last = [(0x16, gone), (0x17, window), (0x80, b"")]
    return b"".join(
        b"PG" + struct.pack(">IIBH", moment, 0, kind, len(body)) + body
        for moment, parts in ((18_000, first), (81_000, last))
        for kind, body in parts
    )
