"""A page by itself: one file that asks for nothing, with what it allows written in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmreg_report.markup import Html, joined, tag

START = "<!DOCTYPE html>"
"""How the file begins."""
_FOLDER = Path(__file__).parent


def page(title: str, lead: Sequence[Html], sections: Mapping[str, Sequence[Html]]) -> str:
    """The text of the file.

    Args:
        title: of the page.
        lead: what stands above all sections.
        sections: what stands in each, by its title; one that is empty is left out.
    """
    style = Html((_FOLDER / "page.css").read_text(encoding="utf-8"))
    script = Html((_FOLDER / "page.js").read_text(encoding="utf-8"))
    shown = {name: parts for name, parts in sections.items() if parts}
    anchors = {name: f"section-{number}" for number, name in enumerate(shown, 1)}
    links = (tag("li", tag("a", name, href=f"#{anchor}")) for name, anchor in anchors.items())
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", style),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), *lead, tag("nav", tag("ul", *links), aria_label="Sections")),
        tag("main", *(_section(name, anchors[name], parts) for name, parts in shown.items())),
        tag("footer", tag("p", "Written by mmreg report.")),
        tag("script", script),
    )
    return f"{START}\n{tag('html', head, body, lang='en')}\n"


def _section(name: str, anchor: str, parts: Sequence[Html]) -> Html:
    heading = f"{anchor}-title"
    return tag("section", tag("h2", name, id=heading), joined(parts), id=anchor, aria_labelledby=heading)


def _policy(script: str) -> str:
    """No request may leave the page, and no script run in it but its own."""
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{own}'; "
        "base-uri 'none'; form-action 'none'"
    )
