"""Where the texts of a figure lie."""

from itertools import combinations
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox


def boxes_of_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for axes in figure.axes:
        either: Any = axes  # titles on the left and the ticks that are drawn have no public name
        axis_drawn = [axis for axis in (either.xaxis, either.yaxis) if axes.axison]
        ticks = [tick.label1 for axis in axis_drawn for tick in axis._update_ticks()]
        texts = [*axes.texts, *ticks, axes.xaxis.label, axes.yaxis.label, axes.title, either._left_title]
        legend = axes.get_legend()
        texts += legend.get_texts() if legend else []
        found += [
            (text.get_text(), text.get_window_extent(canvas.get_renderer()))
            for text in texts
            if text.get_text() and text.get_visible()
        ]
    return found


def require_apart(figure: Figure, *, height: float) -> None:
    """No text leaves the figure, and none meets another; `height` is the share of a text's box that ink may fill."""
    texts = boxes_of_texts(figure)
    assert len(texts) > 10
    for name, box in texts:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.bbox.x1, name
        assert box.y1 <= figure.bbox.y1, name
    for (first, one), (second, other) in combinations(texts, 2):
        assert not one.shrunk(0.98, height).overlaps(other.shrunk(0.98, height)), (first, second)
