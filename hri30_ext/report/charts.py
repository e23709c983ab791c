"""Charts as inline SVG: no style attributes, which the page's policy would refuse."""

import math
from collections.abc import Sequence

from markupsafe import Markup

_SIZE = (340, 230)  # width, height of the drawing in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns round numbers that divide a range.

    >>> ticks(0, 3.4)
    [0.0, 1.0, 2.0, 3.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [(first + i) * step for i in range(int((high - first * step) / step + 1e-9) + 1)]


def line_chart(name: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
               x_label: str, y_range: tuple[float, float] | None = None) -> Markup:
    """Draws lines over each other; each has a colour and a dash of its own.

    Args:
        name (str): What is drawn, for those who do not see it and as the axis' name.
        series (Sequence): Names and points (x, y).
        x_label (str): The name of the x axis.
        y_range (tuple[float, float], optional): By default from 0 to the highest point.

    Returns:
        Markup: An ``<svg>`` element.
    """
    points = [point for _, line in series for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    high_x = max(high_x, low_x + 1)
    low_y, high_y = y_range or (0, max(*(y for _, y in points), 1e-12) * 1.05)

    def place(x, y):
        return (_LEFT + (x - low_x) / (high_x - low_x) * (_SIZE[0] - _LEFT - _RIGHT),
                _SIZE[1] - _BOTTOM - (y - low_y) / (high_y - low_y)
                * (_SIZE[1] - _TOP - _BOTTOM))

    parts = [_axes(place, ticks(low_x, high_x), ticks(low_y, high_y), low_x, high_x, low_y,
                   x_label)]
    for i, (_, line) in enumerate(series):
        path = ' '.join('{:.1f},{:.1f}'.format(*place(*point)) for point in line)
        parts.append(Markup('<polyline class="line l{}" points="{}"/>').format(i % 6, path))
    last = '; '.join(f'{label} ends at {line[-1][1]:.4g}' for label, line in series if line)
    return _svg(f'{name}: {last}', parts)


def reliability_chart(bins: Sequence[dict]) -> Markup:
    """Draws how often clips are right against how sure the model is.

    Args:
        bins (Sequence[dict]): ``low``, ``high``, ``confidence``, ``accuracy``, ``clips``;
            bins without clips are left out.
    """
    def place(x, y):
        return (_LEFT + x * (_SIZE[0] - _LEFT - _RIGHT),
                _SIZE[1] - _BOTTOM - y * (_SIZE[1] - _TOP - _BOTTOM))

    marks = [i / 5 for i in range(6)]
    parts = [_axes(place, marks, marks, 0, 1, 0, 'Confidence')]
    most = max(one['clips'] for one in bins)
    for one in bins:
        left, top = place(one['low'], one['accuracy'])
        right, bottom = place(one['high'], 0)
        # Faint where few clips stand behind a bar.
        shade = min(9, max(2, math.ceil(9 * math.sqrt(one['clips'] / most))))
        parts.append(Markup(
            '<rect class="bin o{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            '<title>Confidence {:.2f} on average, right {:.2f}, {} clips</title></rect>'
        ).format(shade, left + 1, top, max(right - left - 2, 1), max(bottom - top, 1.5),
                 one['confidence'], one['accuracy'], one['clips']))
    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    parts.append(Markup('<line class="ideal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" '
                        'y2="{:.1f}"/>').format(x0, y0, x1, y1))
    for one in bins:
        x, y = place(one['confidence'], one['accuracy'])
        parts.append(Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>')
                     .format(x, y))
    return _svg('Accuracy against confidence; on the dashed diagonal a model is as often '
                'right as it is sure. The same numbers are in the table.', parts)


def _svg(label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" role="img" viewBox="0 0 {} {}" aria-label="{}">{}'
                  '</svg>').format(*_SIZE, label, Markup('').join(parts))


def _axes(place, x_ticks, y_ticks, low_x, high_x, low_y, x_label) -> Markup:
    parts = []
    for y in y_ticks:
        (x0, height), (x1, _) = place(low_x, y), place(high_x, y)
        parts.append(Markup(
            '<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            '<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{:.3g}</text>'
        ).format(x0, height, x1, height, x0 - 5, height + 4, y))
    for x in x_ticks:
        width, bottom = place(x, low_y)
        parts.append(Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">'
                            '{:.4g}</text>').format(width, bottom + 15, x))
    parts.append(Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}'
                        '</text>').format((_LEFT + _SIZE[0] - _RIGHT) / 2, _SIZE[1] - 4,
                                          x_label))
    return Markup('').join(parts)
