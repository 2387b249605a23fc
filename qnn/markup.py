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


_PIXELS_A_POINT = 2.35
"""Largest magnification: with it a figure of two columns is as wide as the page, one of one column half as wide."""


def inline(svg: bytes, name: str, title: str) -> str:
    """An SVG file as an element of the page, its ids apart from those of the other figures."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    width = re.search(r'\bwidth="([\d.]+)pt"', text)
    style = f' style="max-width: {_PIXELS_A_POINT * float(width[1]):.0f}px"' if width else ""
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"{style}', 1)


def figure(svg: bytes, name: str, title: str, caption: str) -> str:
    """A figure with its caption and links to its files, ``name.svg`` and ``name.png``; the caption is plain text."""
    return (
        f"<figure>{inline(svg, name, title)}<figcaption>{html.escape(caption)} "
        f'<a href="{name}.svg">SVG</a> <a href="{name}.png">PNG</a></figcaption></figure>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, wide: bool = False) -> str:
    """A plain table of texts, which are escaped here; a `wide` one has one line a row and is scrolled instead."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    look = "plain wide" if wide else "plain"
    return (
        f'<div class="scroll"><table class="{look}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
