"""Pieces of HTML that the report's sections share."""

import html
import re
from collections.abc import Iterable, Sequence

__all__ = ["TITLES", "figure", "inline", "missing", "table"]

TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
"""Data sets as they are called in print."""


def missing(sentence: str) -> str:
    """What is not there, instead of a figure or a table."""
    return f'<p class="missing">{html.escape(sentence)}</p>'


def inline(svg: bytes, name: str, title: str) -> str:
    """An SVG file as an element of the page, its ids apart from those of the other figures."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def figure(svg: bytes, name: str, title: str, caption: str) -> str:
    """A figure with its caption and links to its files, ``name.svg`` and ``name.png``; the caption is plain text."""
    return (
        f"<figure>{inline(svg, name, title)}<figcaption>{html.escape(caption)} "
        f'<a href="{name}.svg">SVG</a> <a href="{name}.png">PNG</a></figcaption></figure>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table of texts, which are escaped here."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
