"""Checks the options of a part against each other and its name. No media library here: the service imports this."""

from ....events.errors import InvalidPath
from ...contract import Job
from ..convert.options import VideoConvertOptions
from ..convert.options import check as check_film
from ..convert.spread import VideoPartOptions, film_of, film_options, part_file


def film_job(job: Job[VideoPartOptions]) -> Job[VideoConvertOptions]:
    """The same job for the whole film."""
    return Job(
        options=film_options(job.options),
        input_file=job.input_file,
        output_file=film_of(job.output_file),
        input_size=job.input_size,
        room=job.room,
    )


def check(job: Job[VideoPartOptions]) -> None:
    """Check that it can be a part of a film, and has the right name. Raises InvalidPath or InvalidOptions."""
    film = film_of(job.output_file)
    part, parts = job.options.part, job.options.parts or 1
    if film == job.output_file or part_file(film, part, parts) != job.output_file:
        raise InvalidPath(
            f"Part {part} of {parts} of a film cannot be called {job.output_file.name!r}",
            field="output_file",
            remedy=f"Call it {part_file(film, part, parts).name!r}, where {film.name!r} is the film's own name.",
        )
    check_film(film_job(job))
