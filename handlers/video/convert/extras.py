"""The content of a film besides picture and sound: metadata, chapters, subtitles, attachments."""

from collections.abc import Mapping
from typing import NamedTuple

from av.container import InputContainer

from ...media.chapters import Chapter, chapters_of, titled
from ..opening import picture_stream
from ..source import VideoSource
from .attachments import Attachments, choose_attachments
from .metadata import (
    TrackMetadata,
    can_hold_timecode,
    dropped_track_notes,
    file_tags,
    lost_disposition_notes,
    timecode_of,
    track_metadata,
)
from .options import Target, VideoConvertOptions
from .subtitles import Subtitles, choose_subtitles


class Extras(NamedTuple):
    """The parts that are kept, and notes about the rest."""

    picture: TrackMetadata
    """Metadata of the picture's track."""
    tags: Mapping[str, str]
    """Tags of the file as a whole."""
    chapters: tuple[Chapter, ...]
    subtitles: Subtitles
    attachments: Attachments
    notes: tuple[str, ...]


def choose_extras(
    container: InputContainer, source: VideoSource, options: VideoConvertOptions, target: Target
) -> Extras:
    """Choose the parts that go into the result's container."""
    form = target.container.format
    picture = track_metadata(picture_stream(container, source.path.name), options.metadata)
    notes = lost_disposition_notes("picture", picture, form)
    listed, unlisted = chapters_of(container)
    chapters, untitled = titled(listed, form)
    subtitles = choose_subtitles(container, options, target.container)
    attachments = choose_attachments(container, form)
    notes += [*unlisted, *untitled, *subtitles.notes, *attachments.notes]
    notes += dropped_track_notes(container, chapters=bool(chapters))
    if code := timecode_of(container):
        if options.start or options.frame_rate:
            notes.append(f"timecode {code} dropped: it is that of another first frame or another rate")
        elif can_hold_timecode(code, form, source.rate):
            picture = picture._replace(tags={**picture.tags, "timecode": code})
        else:
            notes.append(f"timecode {code} dropped")
    tags = file_tags(container)
    if options.metadata == "strip" and tags:
        tags = {}
        notes.append("tags dropped, as asked")
    return Extras(picture, tags, chapters, subtitles, attachments, tuple(notes))
