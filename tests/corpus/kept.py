"""Ffprobe's values of a film before and after, one by one, and why a value may differ.

`TABLE` has a line for each key that may differ: for which tracks, which key, why in words, and the condition. A
difference that matches none of its lines is a fault: it was not requested, and no note of the result mentions it.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

Said: TypeAlias = dict[str, dict[str, str]]
"""Name of a track, such as `audio 2`, or `format`, `chapter 1`, `program 1` → key → value."""


_EMPTY = 2
"""Bytes of a packet of mov_text that fills a gap."""


def probe(path: Path) -> Said:
    """Return all that ffprobe reports about a file. Raises CalledProcessError."""
    show = ("-show_format", "-show_streams", "-show_chapters", "-show_programs", "-count_packets")
    command = ["ffprobe", "-v", "error", *show, "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    said: Said = {"format": _flat(found["format"])}
    if any(stream.get("codec_type") == "subtitle" for stream in found["streams"]):
        shown = _first_shown(path)
        for stream in found["streams"]:
            if stream.get("codec_type") == "subtitle":
                stream["start_time"] = shown.get(stream["index"])
    counts: dict[str, int] = {}
    named = [(_kind(stream), stream) for stream in found["streams"]]
    named += [("chapter", chapter) for chapter in found["chapters"]]
    named += [("program", {**each, "streams": None}) for each in found["programs"]]
    for kind, parts in named:
        counts[kind] = counts.get(kind, 0) + 1
        said[f"{kind} {counts[kind]}"] = _flat(parts)
    set_distances(said)
    return said


def _first_shown(path: Path) -> dict[int, str]:
    """Map each subtitle track's number to the time of its first line. Ffprobe gives the start of the file."""
    command = ["ffprobe", "-v", "error", "-select_streams", "s", "-show_entries", "packet=stream_index,pts_time,size"]
    said = subprocess.run([*command, "-of", "json", str(path)], check=True, capture_output=True, timeout=120).stdout
    first: dict[int, str] = {}
    for packet in json.loads(said)["packets"]:
        if "pts_time" in packet and int(packet["size"]) > _EMPTY:
            first.setdefault(packet["stream_index"], packet["pts_time"])
    return first


def _kind(stream: dict[str, Any]) -> str:
    if stream.get("disposition", {}).get("attached_pic"):
        return "cover"
    return str(stream.get("codec_type", "unknown"))


def _flat(parts: dict[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parts.items():
        if isinstance(value, dict):
            tag = "tag " if key == "tags" else f"{key} "
            found |= {name.lower() if key == "tags" else name: each for name, each in _flat(value, tag).items()}
        elif isinstance(value, list):
            for each in value:
                called = each.get("side_data_type", "") if isinstance(each, dict) else ""
                found |= _flat(each, f"{key} {called} ")
        elif value is not None:
            found[before + key] = str(value)
    return found


def set_distances(said: Said, counted: str = "audio|video") -> None:
    """Set each track's start relative to the first one that counts: ffprobe counts from the file's own clock."""
    begins = {
        name: float(keys["start_time"]) for name, keys in said.items() if name[0] in "avs" and "start_time" in keys
    }
    first = min((moment for name, moment in begins.items() if name.startswith(tuple(counted.split("|")))), default=0.0)
    for name, moment in begins.items():
        if not name.startswith("attachment"):
            said[name]["begins"] = f"{moment - first:.3f}"
    for name, keys in said.items():
        if name.startswith("chapter"):
            keys["begins"] = f"{max(0.0, float(keys['start_time']) - first):.3f}"
            keys["ends"] = f"{float(keys['end_time']) - first:.3f}"


class Case(msgspec.Struct, kw_only=True):
    """A film that was converted."""

    type: str
    options: dict[str, Any]
    suffix: str
    before: Said
    after: Said
    notes: list[str] = []

    def __post_init__(self) -> None:
        for note in self.notes:
            if found := re.search(r"^sound track (\d+) of \d+ kept", note):
                kept = f"audio {found[1]}"
                self._compare_last("audio", [name for name in self.before if name != kept])
            elif found := re.search(r"subtitle tracks? dropped: (\w+) does not go into", note):
                codec = found[1]
                self._compare_last(
                    "subtitle", [n for n, keys in self.before.items() if keys.get("codec_name") == codec]
                )
        if self.type == "audio_convert":  # the start of the picture does not matter then
            set_distances(self.before, "audio 1")
            set_distances(self.after, "audio 1")

    def _compare_last(self, kind: str, dropped: Sequence[str]) -> None:
        """Renumber the tracks of the source: dropped ones come after those that are in the result."""
        names = [name for name in self.before if name.startswith(f"{kind} ")]
        ordered = [self.before[name] for name in sorted(names, key=lambda name: name in dropped)]
        self.before |= dict(zip(names, ordered, strict=True))

    @property
    def encodes(self) -> bool:
        """Return whether the picture was encoded."""
        return self.options.get("video_codec") != "copy"

    def noted(self, pattern: str) -> bool:
        """Return whether a note mentions it."""
        return any(re.search(pattern, note) for note in self.notes)


class Difference(NamedTuple):
    """A value that differs."""

    case: Case
    track: str
    key: str
    before: str
    """Empty: it was not there."""
    after: str

    @property
    def numbers(self) -> tuple[float, float] | None:
        """Return both values, if they are numbers or ratios."""
        try:
            before, after = (Fraction(each.replace(":", "/")) for each in (self.before, self.after))
        except (ValueError, ZeroDivisionError):
            return None
        return float(before), float(after)

    def of(self, key: str, *, after: bool = False) -> str:
        """Return another value of the same track."""
        said = self.case.after if after else self.case.before
        return said.get(self.track, {}).get(key, "")


Holds: TypeAlias = Callable[[Difference], bool]


def differences(case: Case) -> Iterator[Difference]:
    """Return all differences, of all tracks."""
    for track in {**case.before, **case.after}:
        before, after = case.before.get(track, {}), case.after.get(track, {})
        if not before or not after:  # a track that is not there is one difference
            yield Difference(case, track, "track", _called(before), _called(after))
            continue
        for key in {**before, **after}:
            if before.get(key, "") != after.get(key, ""):
                yield Difference(case, track, key, before.get(key, ""), after.get(key, ""))


def _called(keys: dict[str, str]) -> str:
    return keys.get("codec_name", "there") if keys else ""


def reason(difference: Difference) -> str:
    """Return why it may differ; empty: no reason is known."""
    for tracks, keys, why, holds in TABLE:
        if _matches(difference.track.split(" ")[0], tracks) and _matches(difference.key, keys) and holds(difference):
            return why
    return ""


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split("|"))


def compared(case: Case) -> int:
    """Return how many values were compared."""
    return sum(len({**case.before.get(track, {}), **keys}) for track, keys in {**case.before, **case.after}.items())


# --- What has to hold ---


def _always(_difference: Difference) -> bool:
    return True


def _picture_encoded(difference: Difference) -> bool:
    return difference.case.encodes


def _near(slack: float) -> Holds:
    def holds(difference: Difference) -> bool:
        return (pair := difference.numbers) is not None and abs(pair[0] - pair[1]) <= slack

    return holds


def _shown_later(difference: Difference) -> bool:
    if difference.case.before["format"].get("format_name") != "avi":
        return False
    frames = 1 + int(difference.of("has_b_frames") or 0)
    return _near(SYNC + float(frames / Fraction(difference.of("avg_frame_rate"))))(difference)


def _noted(pattern: str) -> Holds:
    """Check for a note. `{}` stands for the key from its last word on, or for the track."""

    def holds(difference: Difference) -> bool:
        name = difference.key.partition(" ")[2] or difference.key
        filled = pattern.replace("{key}", re.escape(name)).replace("{track}", _in_notes(difference))
        return difference.case.noted(filled)

    return holds


def _in_notes(difference: Difference) -> str:
    kind, _, number = difference.track.partition(" ")
    sounds = sum(name.startswith("audio") for name in difference.case.before)
    words = {"video": "the picture", "audio": "the sound" if sounds == 1 else f"sound track {number}"}
    return words.get(kind, "the subtitle track")


def _new(difference: Difference) -> bool:
    return not difference.before


def _gone(difference: Difference) -> bool:
    return not difference.after


def _was(*values: str) -> Holds:
    return lambda difference: difference.before in values


def _both(*all_of: Holds) -> Holds:
    return lambda difference: all(holds(difference) for holds in all_of)


def _any(*one_of: Holds) -> Holds:
    return lambda difference: any(holds(difference) for holds in one_of)


def _into(*suffixes: str) -> Holds:
    return lambda difference: difference.case.suffix in suffixes


def _as_long_as_the_sound(difference: Difference) -> bool:
    sound = difference.case.before.get("audio 1", {}).get("duration", "nan")
    return abs(float(difference.after or "nan") - float(sound)) <= 0.1


def _as_long_as_picture_and_sound(difference: Difference) -> bool:
    tracks = difference.case.before.items()
    lasts = {
        kind: [float(keys.get("duration", "nan")) for name, keys in tracks if name.startswith(kind)]
        for kind in ("video", "audio", "subtitle")
    }
    longer = abs(max(lasts["subtitle"], default=0.0) - float(difference.before or "nan")) <= 0.1
    return longer and abs(max(lasts["video"] + lasts["audio"], default=0.0) - float(difference.after or "nan")) <= 0.1


def _type(name: str) -> Holds:
    return lambda difference: difference.case.type == name


def _codec_differs(difference: Difference) -> bool:
    return difference.of("codec_name") != difference.of("codec_name", after=True)


def _asked_codec(difference: Difference) -> bool:
    """Return the codec of the options, or the usual one of the container. For the picture."""
    usual = {".webm": "vp9"}.get(difference.case.suffix, "h264")
    return difference.case.encodes and difference.after == difference.case.options.get("video_codec", usual)


_PCM = {f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f64le")}
_SOUND = {
    ".mp4": ("aac", {"aac", "opus", "mp3", "ac3", "eac3", "flac", "alac"}),
    ".mov": ("aac", {"aac", "mp3", "ac3", "eac3", "alac", *_PCM}),
    ".mkv": ("aac", {"aac", "opus", "mp3", "ac3", "eac3", "flac", "alac", "vorbis", "dts", *_PCM}),
    ".webm": ("opus", {"opus", "vorbis"}),
    ".m4a": ("aac", {"aac", "alac"}),
    ".mp3": ("mp3", {"mp3"}),
    ".flac": ("flac", {"flac"}),
}
"""Suffix → the codec that sound is encoded to, and those that are left as they are."""
_UNSTEADY = ("avi", "flv", "ogg", "mpeg")
"""Containers with unreliable sound times: their sound is encoded."""


def _sound_encoded(difference: Difference) -> bool:
    """Return whether the docs say that the sound of a track is encoded."""
    case, codec = difference.case, difference.of("codec_name")
    usual, copied = _SOUND[case.suffix]
    if difference.of("codec_name", after=True) != case.options.get("audio_codec", usual):
        return False
    asked = any(name in case.options for name in ("loudness", "channels", "codec", "audio_codec"))
    unsteady = case.type == "video_convert" and case.before["format"]["format_name"] in _UNSTEADY
    return codec not in copied or unsteady or asked


def _fits_box(difference: Difference) -> bool:
    """Check that a side was made smaller, and not below the box of the preset."""
    most: int = difference.case.options.get(f"max_{difference.key}", 0)
    return difference.case.encodes and int(difference.after) <= most < int(difference.before)


def _smaller(difference: Difference) -> bool:
    """Check that the other side was made smaller."""
    wide, high = (f"max_{side}" in difference.case.options for side in ("width", "height"))
    shrunk = int(difference.of("width", after=True)) * int(difference.of("height", after=True))
    whole = int(difference.of("width")) * int(difference.of("height"))
    return difference.case.encodes and wide and high and shrunk < whole


def _turned(difference: Difference) -> bool:
    return difference.case.noted(r"turned upright by (90|270) degrees")


_SAME_LANGUAGE = {"deu": "ger", "nld": "dut", "fra": "fre", "zho": "chi"}


def _same_language(difference: Difference) -> bool:
    return _SAME_LANGUAGE.get(difference.before, difference.before) == _SAME_LANGUAGE.get(
        difference.after, difference.after
    )


def _share(most: float) -> Holds:
    def holds(difference: Difference) -> bool:
        pair = difference.numbers
        return pair is not None and abs(pair[0] - pair[1]) <= most * max(pair)

    return holds


def _found_elsewhere(*keys: str) -> Holds:
    """Return whether the value is under another key of the same track."""
    return lambda difference: any(difference.of(key, after=True) == difference.before for key in keys)


def _came_from(*keys: str) -> Holds:
    return lambda difference: any(difference.of(key) == difference.after for key in keys)


def _no_picture(difference: Difference) -> bool:
    return difference.case.type == "audio_convert"


def _less_what_was_before(difference: Difference) -> bool:
    """Check that it is shorter by what lies before the first track, which some containers count."""
    pair, case = difference.numbers, difference.case
    begins = [float(keys["start_time"]) for name, keys in case.before.items() if name[0] in "av" and "begins" in keys]
    sound = case.before.get("audio 1", {}).get("begins", "0") if _no_picture(difference) else "0"
    late = [min(begins, default=0.0), *begins, float(sound)]
    return pair is not None and any(abs(pair[0] - moment - pair[1]) <= 0.13 for moment in late)


def _same_packets(difference: Difference) -> bool:
    return difference.of("nb_read_packets") == difference.of("nb_read_packets", after=True)


def _of_the_film(difference: Difference) -> bool:
    """Check for the recording time of the whole film, which is compared."""
    said = (
        difference.case.before["format"].get(difference.key, ""),
        difference.case.after["format"].get(difference.key, ""),
    )
    return said[0] == said[1] == (difference.before or difference.after)


def _spaces_became_lines(difference: Difference) -> bool:
    return any(
        name.replace(" ", "_") == difference.key.replace(" ", "_") and value == difference.after
        for name, value in difference.case.before[difference.track].items()
    )


def _moved(difference: Difference) -> bool:
    """Check that a tag of the sound is now one of the file, or the reverse."""
    after, before = difference.case.after, difference.case.before
    wanted, found = (difference.before, after) if difference.before else (difference.after, before)
    return any(found.get(name, {}).get(difference.key) == wanted for name in ("format", "audio 1"))


def _zero(difference: Difference) -> bool:
    return (difference.before or difference.after) == "0"


SYNC = 0.07
"""Seconds that a track may move against another: two packets of sound, or a tick of a coarse clock and one packet."""
TABLE: tuple[tuple[str, str, str, Holds], ...] = (
    # --- what ffprobe says of the file and its reading, not of the film ---
    ("format", "filename", "the result has a path of its own", _always),
    ("format", "size|bit_rate|probe_score", "follows from codecs and container", _always),
    ("format", "nb_*", "tracks and programs are compared one by one", _always),
    ("format", "format_*name", "the container is that of the output's suffix", _always),
    ("*", "tag encoder|tag encoder-*", "the program that wrote it", _always),
    ("format", "tag major_brand|tag minor_version|tag compatible_brands", "the kind of mp4 or mov", _always),
    ("*", "index|id|ts_id|ts_packetsize|codec_long_name|codec_tag*", "follows from codec and container", _always),
    (
        "*",
        "time_base|start_pts|start_time|duration_ts|start|end|end_time",
        "the clock: see begins and duration",
        _always,
    ),
    ("*", "extradata_size|is_avc|nal_length_size|mime_codec_string", "how the container keeps the codec", _always),
    ("*", "bit_rate|max_bit_rate", "follows from codec and quality", _always),
    ("*", "nb_frames", "not every container counts; packets are counted here", _always),
    ("*", "tag bps*|tag number_of_*|tag _statistics*|tag vendor_id", "bookkeeping of the program that wrote", _always),
    ("*", "side_data_list CPB properties *", "the encoder's buffers", _always),
    # --- when ---
    ("*", "begins|ends", f"within {SYNC} s: packets, and the ticks of the container's clock", _near(SYNC)),
    (
        "subtitle",
        "begins|nb_read_packets|duration|tag duration*",
        "a note tells it",
        _noted("subtitles (is|are) over before the film begins"),
    ),
    ("video", "tag alpha_mode", "a note tells it", _noted("transparency")),
    ("chapter", "*", "a note tells it", _noted("chapters? (is|are) over before the (film|sound) begins")),
    (
        "data",
        "duration",
        "chapters end with the film, and a timecode lasts as long",
        _into(".mp4", ".mov", ".m4a"),
    ),
    ("video", "begins", "an avi says when its first picture is decoded, not when it is shown", _shown_later),
    ("*", "duration", "within 0.1 s: the last packet of sound, and ticks", _near(0.1)),
    (
        "*",
        "duration|tag duration*",
        "not every container says it of a track; that of the file is compared",
        _any(_new, _gone),
    ),
    ("*", "tag duration*", "the file's clock", _always),
    ("audio|format", "duration", "a mp3 counts what players leave out", _both(_into(".mp3"), _near(0.15))),
    (
        "format",
        "duration",
        "as long as picture and sound; what follows the last text is not kept",
        _as_long_as_picture_and_sound,
    ),
    ("format", "duration", "as long as the sound", _both(_type("audio_convert"), _as_long_as_the_sound)),
    # --- tracks ---
    (
        "video|cover",
        "track",
        "a note tells it",
        _both(_gone, _noted("further moving picture|cover picture|moving picture is left")),
    ),
    (
        "video|subtitle|attachment|data",
        "track",
        "a note tells it",
        _both(_gone, _type("audio_convert"), _noted("left out")),
    ),
    ("audio", "track", "a note tells it", _both(_gone, _type("audio_convert"), _noted(r"sound track \d+ of \d+ kept"))),
    ("subtitle", "track", "a note tells it", _both(_gone, _noted("subtitle tracks? dropped"))),
    ("attachment", "track", "a note tells it", _both(_gone, _noted("attachment .* dropped"))),
    ("data", "track", "a note tells it", _both(_gone, _noted("data tracks? dropped"))),
    (
        "data",
        "track",
        "mp4 and mov keep chapters and timecodes as tracks of data",
        lambda difference: (
            "chapter 1" in difference.case.before
            or difference.case.noted("timecode")
            or any("tag timecode" in keys for keys in difference.case.before.values())
        ),
    ),
    ("program", "track", "a note tells it", _both(_gone, _noted("program"))),
    (
        "program",
        "track",
        "a program without a name is only how a transport stream lists its tracks",
        lambda difference: _gone(difference) and "tag service_name" not in difference.case.before[difference.track],
    ),
    # --- the picture ---
    ("video", "codec_name", "asked for: the codec of the preset", _asked_codec),
    (
        "video",
        "profile|level|refs|has_b_frames|coded_*|film_grain|closed_captions|bits_per_raw_sample|chroma_location|quarter_sample|divx_packed",
        "the encoder's choice for the codec that was asked for",
        _picture_encoded,
    ),
    ("video", "r_frame_rate", "ffprobe's guess; packets and the average rate are compared", _always),
    ("video", "avg_frame_rate", "within 3 %: an average over a length that is rounded", _share(0.03)),
    ("video", "width|height", "asked for: the box of the preset", _any(_fits_box, _smaller)),
    ("video", "width|height", "a note tells it", _noted("{key} .* became|became square")),
    ("video", "width|height|*_aspect_ratio", "a note tells it: turned upright", _turned),
    (
        "video",
        "sample_aspect_ratio",
        "1:1 is what is meant where nothing is said",
        _both(_was("", "0:1", "1:1"), lambda difference: difference.after in ("", "0:1", "1:1")),
    ),
    ("video", "sample_aspect_ratio", "a note tells it", _noted("became square|shape of pixels")),
    ("video", "display_aspect_ratio", "follows from size and shape of pixels", _always),
    ("video", "pix_fmt", "a note tells it", _both(_picture_encoded, _noted("colour|transparency|dynamic"))),
    ("video", "color_range", "a note tells it", _noted("colour range|colours")),
    (
        "video",
        "color_range",
        "tv is what is meant where nothing is said",
        _both(_was("", "unknown"), lambda difference: difference.after == "tv"),
    ),
    ("video", "color_space|color_transfer|color_primaries", "a note tells it", _noted("dynamic|colours")),
    ("video", "field_order", "a note tells it", _noted("interlaced")),
    (
        "video",
        "field_order",
        "what the stream says; only a mkv says it once more",
        _both(_was("bt", "tb"), _into(".mp4", ".mov")),
    ),
    (
        "video",
        "field_order",
        "progressive is what is meant where nothing is said",
        _both(
            _was("", "unknown", "progressive"), lambda difference: difference.after in ("", "unknown", "progressive")
        ),
    ),
    (
        "video",
        "side_data_list Display Matrix *",
        "a note tells it: turned upright",
        _noted("turned upright|mirrored|rotation|mirroring"),
    ),
    ("video", "side_data_list Mastering*|side_data_list Content*", "a note tells it", _noted("HDR10|dynamic")),
    ("video", "nb_read_packets", "a note tells it", _noted("pictures .* dropped|deinterlaced")),
    # --- sound ---
    ("audio", "codec_name", "asked for, or the container does not take the source's codec", _sound_encoded),
    (
        "audio",
        "profile|sample_fmt|bits_per_sample|bits_per_raw_sample|initial_padding|nb_read_packets|r_frame_rate|dmix_mode|*cmixlev|*surmixlev",
        "follows from the codec of the sound",
        _sound_encoded,
    ),
    ("audio", "sample_rate", "a note tells it", _noted("samples a second became")),
    ("audio", "sample_rate", "opus has one rate", lambda difference: difference.of("codec_name", after=True) == "opus"),
    ("audio", "channels|channel_layout", "a note tells it", _noted("channels .*became")),
    ("audio", "channel_layout", "a note tells it", _noted("does not say which channels")),
    (
        "audio",
        "channel_layout",
        "mkv says only the number of uncompressed channels: the usual ones are meant",
        lambda difference: (
            difference.case.suffix == ".mkv"
            and difference.of("codec_name", after=True) in _PCM
            and difference.before in ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
            and difference.after == ""
        ),
    ),
    (
        "audio",
        "channels|channel_layout",
        "asked for",
        lambda difference: difference.case.options.get("channels") == "mono",
    ),
    (
        "audio",
        "initial_padding",
        "what an encoder put in front is heard as silence; see begins",
        lambda difference: difference.after == "0",
    ),
    # --- what is said of tracks ---
    (
        "*",
        "tag language",
        "und says that nobody knows",
        _both(_was("", "und"), lambda difference: difference.after in ("", "und")),
    ),
    ("*", "tag language", "the same language under its other name", _same_language),
    (
        "*",
        "tag title",
        "mp4 and mov call it the name of a track",
        _found_elsewhere("tag handler_name", "tag name", "tag title"),
    ),
    ("*", "tag title", "mp4 and mov call it the name of a track", _came_from("tag handler_name", "tag name")),
    (
        "*",
        "tag handler_name|tag name",
        "what mp4 and mov call a track",
        _any(
            _new, _was("VideoHandler", "SoundHandler", "SubtitleHandler", "DataHandler"), _found_elsewhere("tag title")
        ),
    ),
    ("*", "disposition *", "a note tells it", _noted("{track} is no longer marked as .*")),
    (
        "*",
        "disposition default",
        "mp4 and mov mark the first track of a kind",
        _both(_into(".mp4", ".mov", ".m4a"), lambda difference: difference.after == "1"),
    ),
    ("format", "tag *", "a note tells it", _noted(r"tags (dropped|left out).*: .*({key}|and \d+ more)")),
    ("video|audio|subtitle", "tag *", "a note tells it", _noted(r"tags of {track} dropped: .*({key}|and \d+ more)")),
    ("subtitle", "codec_name", "a note tells it", _noted("subtitles rewritten")),
    # --- found to be so ---
    (
        "format|attachment|cover",
        "duration",
        "some containers count from 0 to the end, not from the first track",
        _less_what_was_before,
    ),
    (
        "audio|video|subtitle",
        "duration",
        "ffprobe guesses that of a transport stream; packets are compared",
        lambda difference: (
            difference.case.before["format"]["format_name"] in ("mpegts", "mpeg") and _near(0.3)(difference)
        ),
    ),
    ("subtitle", "duration", "that of the whole file, in a mkv", _always),
    ("video", "avg_frame_rate", "an average; the packets are as many as before", _same_packets),
    ("*", "missing_streams", "bookkeeping of the reader", _always),
    (
        "subtitle",
        "nb_read_packets|begins",
        "mov_text has packets for the gaps",
        lambda difference: "mov_text" in (difference.of("codec_name"), difference.of("codec_name", after=True)),
    ),
    (
        "subtitle",
        "begins",
        "what is shown when the film begins, begins with it",
        lambda difference: difference.before.startswith("-") and _near(SYNC)(difference._replace(before="0")),
    ),
    (
        "audio",
        "side_data_list Audio Service Type *",
        "the main service is what is meant where nothing is said",
        lambda difference: (
            "0"
            in (
                difference.of(difference.key.rpartition(" ")[0] + " service_type"),
                difference.of(difference.key.rpartition(" ")[0] + " service_type", after=True),
            )
        ),
    ),
    (
        "video",
        "color_range",
        "tv is what is meant where nothing is said",
        _both(_was("tv"), lambda difference: difference.after in ("", "unknown")),
    ),
    ("*", "tag creation_time", "mp4 and mov say it of each track, too", _of_the_film),
    (
        "*",
        "tag timecode",
        "that of the picture; it stands there",
        lambda difference: any(
            keys.get("tag timecode") == difference.before for keys in difference.case.after.values()
        ),
    ),
    ("*", "tag timecode", "a note tells it", _noted("timecode .* dropped")),
    (
        "format|attachment",
        "duration",
        "what has no end lasts 49 days for ffprobe",
        lambda difference: difference.before.startswith("42949"),
    ),
    ("*", "tag timecode", "it counts pictures, and these are left out", _no_picture),
    (
        "*",
        "disposition captions",
        "in mp4, subtitles for who cannot hear are captions",
        lambda difference: (
            "1"
            in (
                difference.of("disposition hearing_impaired"),
                difference.of("disposition hearing_impaired", after=True),
            )
        ),
    ),
    (
        "audio",
        "disposition descriptions",
        "in mp4, sound for who cannot see describes the picture",
        lambda difference: (
            "1"
            in (
                difference.of("disposition visual_impaired"),
                difference.of("disposition visual_impaired", after=True),
            )
        ),
    ),
    (
        "cover",
        "tag filename|tag mimetype|tag comment|tag title",
        "mkv says the name, mp3 and flac say the kind of a cover",
        _always,
    ),
    ("*", "tag *", "mkv writes spaces in names of tags as lines", _spaces_became_lines),
    (
        "audio|format",
        "tag *",
        "in Ogg the tags are those of the sound, in others those of the file",
        _both(_no_picture, _moved),
    ),
    ("audio", "tag *", "a note tells it", _both(_no_picture, _noted("tags left out.*: .*{key}"))),
    (
        "audio",
        "channel_layout",
        "said, where only the number of channels was",
        _both(_was(""), lambda difference: difference.of("channels") == difference.of("channels", after=True)),
    ),
    (
        "audio",
        "channel_layout",
        "the same six channels under their other name",
        lambda difference: {difference.before, difference.after} == {"5.1", "5.1(side)"},
    ),
    ("audio", "begins", "wav, aiff and others say no beginning", _any(_new, _gone)),
    (
        "video",
        "color_space|color_primaries|color_transfer",
        "said, where it was clear from the codec: a JPEG",
        _both(_new, lambda difference: difference.of("codec_name") == "mjpeg"),
    ),
    (
        "video",
        "color_space",
        "VP8 has one matrix, whatever the file says",
        lambda difference: (difference.of("codec_name"), difference.after) == ("vp8", "bt470bg"),
    ),
    (
        "audio",
        "disposition default",
        "mp3 and flac hold one sound and no marks",
        _both(_no_picture, _into(".mp3", ".flac")),
    ),
    (
        "format",
        "tag comment",
        "in flac a description and a comment are the same tag",
        _both(_new, _into(".flac"), _came_from("tag description")),
    ),
    ("chapter", "ends", "in flac chapters say only where they begin", _into(".flac")),
)
