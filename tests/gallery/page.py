"""The page that a person looks at."""

from html import escape
from pathlib import Path

import msgspec
from checks import SOUNDS, VIDEOS

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; background: #f6f6f4; color: #222 }
section { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; padding: .8rem; background: #fff; border-radius: 6px; max-width: 420px }
img, video { max-width: 100%; max-height: 320px }
img { background: repeating-conic-gradient(#ddd 0 25%, #fff 0 50%) 0 0/16px 16px }
figcaption { font-size: 13px } .bad { color: #b00 } code { font-size: 12px }
"""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One result."""

    type: str
    source: str
    licence: str
    output: Path
    options: str
    facts: str
    problems: tuple[str, ...]


def write_page(shown: list[Shown], folder: Path) -> Path:
    """Write `index.html` beside the results."""
    parts = [f"<!doctype html><meta charset=utf-8><title>Gallery</title><style>{_STYLE}</style><h1>Gallery</h1>"]
    for kind in dict.fromkeys(each.type for each in shown):
        figures = "".join(_figure(each) for each in shown if each.type == kind)
        parts.append(f"<h2>{escape(kind)}</h2><section>{figures}</section>")
    page = folder / "index.html"
    page.write_text("\n".join(parts))
    return page


def _figure(shown: Shown) -> str:
    name = escape(shown.output.name, quote=True)
    if shown.output.suffix in VIDEOS:
        media = f'<video src="{name}" controls muted loop></video>'
    elif shown.output.suffix in SOUNDS:
        media = f'<audio src="{name}" controls></audio>'
    elif shown.output.suffix in (".tif", ".zip", ".pdf"):
        media = f'<a href="{name}">{name}</a>'
    else:
        media = f'<a href="{name}"><img src="{name}" alt=""></a>'
    problems = "".join(f'<div class="bad">{escape(problem)}</div>' for problem in shown.problems)
    return (
        f"<figure>{media}<figcaption>{escape(shown.source)} ({escape(shown.licence)}) → {name}<br>"
        f"<code>{escape(shown.options)}</code><br>{escape(shown.facts)}{problems}</figcaption></figure>"
    )
