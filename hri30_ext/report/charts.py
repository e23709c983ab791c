"""Charts as SVG images that lie in the page itself."""

import base64
import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colours that can be read on a light page and on a dark one.
_TEXT, _BLUE, _ORANGE = '#7d8894', '#2b8ccb', '#e06c1f'
_STYLE = {'font.size': 8, 'svg.hashsalt': 'report', 'axes.edgecolor': _TEXT,
          'grid.color': _TEXT, 'grid.alpha': .25,
          **dict.fromkeys(('text.color', 'axes.labelcolor', 'xtick.color', 'ytick.color'),
                          _TEXT)}
_LINES = [dict(color=color, linestyle=dash) for dash in ('-', '--', ':')
          for color in (_BLUE, _ORANGE)]


def line_chart(name: str, series: Mapping[str, Sequence[tuple[float, float]]],
               limits: tuple[float, float] | None = None) -> dict:
    """Draws lines, points (x, y) by their names, over epochs; the y axis begins at 0 unless
    it has limits.

    Returns:
        dict: ``name``, ``text`` for readers who do not see the image, and ``uri``.
    """
    figure, axes = _figure('Epoch')
    for i, (label, points) in enumerate(series.items()):
        axes.plot(*zip(*points, strict=True), label=label, **_LINES[i % len(_LINES)])
    axes.set_ylim(*(limits or (0, None)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(frameon=False, labelcolor=_TEXT)
    ends = '; '.join(f'{label} ends at {points[-1][1]:.4g}'
                     for label, points in series.items())
    return dict(name=name, text=f'{name}: {ends}', uri=_to_uri(figure))


def reliability_chart(bins: Sequence[dict]) -> str:
    """Draws the share of clips that are right over the confidence; returns a data URI.

    The bins are those of :func:`~hri30_ext.evaluation.calibration.reliability_bins` that
    have clips.
    """
    figure, axes = _figure('Confidence')
    most = max(one['clips'] for one in bins)
    for one in bins:
        # Pale where a bar stands for few clips.
        axes.bar(one['low'], max(one['accuracy'], .005), one['high'] - one['low'],
                 color=_BLUE, align='edge', linewidth=0,
                 alpha=.2 + .7 * math.sqrt(one['clips'] / most))
    axes.plot([0, 1], [0, 1], color=_TEXT, linestyle='--', linewidth=1)
    axes.plot([one['confidence'] for one in bins], [one['accuracy'] for one in bins], 'o',
              color=_ORANGE, markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return _to_uri(figure)


def _figure(x_label: str) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4, 2.7), layout='constrained', facecolor='none')
        axes = figure.add_subplot(facecolor='none')
        axes.set_xlabel(x_label)
        axes.grid(True)
        axes.spines[['top', 'right']].set_visible(False)
    return figure, axes


def _to_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={'Date': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()
