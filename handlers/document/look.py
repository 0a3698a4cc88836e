"""A look into the document before the work begins, for a better estimate."""

from contextlib import closing
from pathlib import Path

from ..contract import Estimate
from .estimate import A4, needs
from .kinds import kind_of
from .options import DocumentPreviewOptions, layout_of
