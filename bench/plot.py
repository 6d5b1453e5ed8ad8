"""Draw curves on logarithmic axes, as an SVG that is readable on light and on dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

# A palette for people with any kind of colour vision (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# This grey has a contrast above 4 to 1 on white and on GitHub's dark background.
GREY = "#7a7a7a"
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": GREY,
    "axes.titleweight": "bold",
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    # The same data always gives the same bytes. Without a salt, matplotlib makes up random ids.
    "svg.hashsalt": "taskwell",
    # Text stays text, so that it can be selected, searched and read aloud.
    "svg.fonttype": "none",
}

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Curves by name, in one frame. The names in `dashed` are drawn with dashes."""

    title: str
    x_axis: str
    curves: Mapping[str, Curve]
    dashed: Sequence[str] = ()


def draw(panels: Sequence[Panel], y_axis: str, path: Path) -> None:
    """Writes an SVG of the panels side by side, on the same vertical axis. A name has the same colour in each panel."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    colours = dict(zip(names, COLOURS, strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        frames = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        lines = {}
        for panel, axes in zip(panels, frames, strict=True):
            axes.set(title=panel.title, xlabel=panel.x_axis, xscale="log", yscale="log")
            axes.grid(axis="y")
            for name, curve in panel.curves.items():
                style = "--" if name in panel.dashed else "-"
                (lines[name],) = axes.plot(*zip(*curve, strict=True), style, marker="o", ms=4, color=colours[name])
        frames[0].set_ylabel(y_axis)
        frames[0].yaxis.set_major_formatter("{x:g}")
        figure.legend([lines[name] for name in names], names, loc="outside lower center", ncols=len(names))
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
