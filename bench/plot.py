"""Curves on logarithmic axes, as an SVG that can be read on light and on dark pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 112, 44, 48
LABEL_HEIGHT = 15

# Told apart by people who see red and green alike (Okabe and Ito, 2008), and on both grounds.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 }
.title { font-weight: 600 }
.grid { stroke: #8886; stroke-width: 1 }
.curve { fill: none; stroke-width: 2 }
.dashed { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) { text { fill: #bbb } }
"""

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Curves by name, in one frame; a name in `dashed` is drawn so."""

    title: str
    x_axis: str
    y_axis: str
    curves: Mapping[str, Curve]
    dashed: Sequence[str] = ()


def svg(panels: Sequence[Panel]) -> str:
    """The panels beside each other, on the same vertical scale; a name has the same colour in each."""
    values = [y for panel in panels for curve in panel.curves.values() for _, y in curve]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    names = dict.fromkeys(name for panel in panels for name in panel.curves)
    colours = dict(zip(names, COLOURS, strict=False))
    drawn = "".join(
        f'<g transform="translate({number * WIDTH} 0)">{_panel(panel, colours, low, max(high, low + 1))}</g>'
        for number, panel in enumerate(panels)
    )
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{drawn}</svg>\n'


def _panel(panel: Panel, colours: Mapping[str, str], low: int, high: int) -> str:
    decades = [math.log10(x) for curve in panel.curves.values() for x, _ in curve]
    first, last = math.floor(min(decades)), max(math.ceil(max(decades)), math.floor(min(decades)) + 1)

    def across(x: float) -> float:
        return round(LEFT + (math.log10(x) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(TOP + (high - math.log10(y)) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<text class="title" x="{LEFT}" y="18">{panel.title}</text><text x="{LEFT}" y="35">{panel.y_axis}</text>']
    for power in range(low, high + 1):
        y = down(10.0**power)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    parts += [
        f'<text x="{across(10.0**power)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_power(power)}</text>'
        for power in range(first, last + 1)
    ]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{panel.x_axis}</text>')
    places = _apart({name: down(curve[-1][1]) for name, curve in panel.curves.items()})
    for name, curve in panel.curves.items():
        colour = colours[name]
        points = " ".join(f"{across(x)},{down(y)}" for x, y in curve)
        kind = "curve dashed" if name in panel.dashed else "curve"
        parts.append(f'<polyline class="{kind}" stroke="{colour}" points="{points}"/>')
        parts += [f'<circle cx="{across(x)}" cy="{down(y)}" r="3" fill="{colour}"/>' for x, y in curve]
        parts.append(
            f'<text x="{across(curve[-1][0]) + 9}" y="{places[name] + 4}" style="fill: {colour}">{name}</text>'
        )
    return "".join(parts)


def _power(power: int) -> str:
    return f'10<tspan dy="-5" font-size="9">{power}</tspan>' if power > 1 else f"{10**power:g}"


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Where the names go, so that none covers another: pushed down from the top, as little as it takes."""
    places: dict[str, float] = {}
    free = -math.inf
    for name, y in sorted(wanted.items(), key=lambda item: item[1]):
        places[name] = max(y, free)
        free = places[name] + LABEL_HEIGHT
    return places
