"""The report's plots as inline SVG whose colors are the page's CSS variables, so that they follow light and dark."""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from registry.records.benchmark import Interval
from tasks.optimizer.pareto import LATENCY, SCORE, SIZE, Axis, latency_at_smallest_batch
from tasks.optimizer.report_rows import Row

# Stand-ins that Matplotlib accepts, replaced by the page's variables in the SVG.
INK, SOFT, LINE, ACCENT, PLAIN, PAGE = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", PLAIN: "--plain", PAGE: "--card"}
_LIGHT = {
    "--ink": "#1b2330",
    "--soft": "#5a6575",
    "--line": "#dfe3e9",
    "--accent": "#0a6c74",
    "--plain": "#6f7d90",
    "--card": "#ffffff",
}

_WIDTH_IN = 4.3
_STYLE = {"svg.fonttype": "none", "font.size": 9.5, "text.color": INK, "axes.labelcolor": SOFT}
_MAX_LABEL = 56

_OFFSETS = ((8, 7), (-14, 7), (8, -14), (-14, -14))
"""Where a point's number stands, in turn, so that close neighbours do not cover each other."""


def latency_plot(rows: Sequence[Row]) -> Markup:
    """Draw p50 and p99 of each measured candidate with intervals, on a logarithmic axis."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 0.75 + 0.46 * len(rows)), layout="constrained")
        axes = figure.subplots()
        _dress(axes)
        axes.set_xscale("log")
        for place, row in enumerate(rows):
            figures = latency_at_smallest_batch(row.result)
            color = ACCENT if row.winner else PLAIN
            _draw(axes, figures.latency_p99_ms, -place, SOFT, "|")
            _draw(axes, figures.latency_p50_ms, -place, color, _marker(row))
            axes.text(
                0,
                -place + 0.34,
                f"{row.number}  {_short(row)}",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8.5,
                color=INK,
                parse_math=False,
            )
        axes.set_ylim(-len(rows) + 0.55, 0.75)
        axes.set_yticks([])
        axes.set_xlabel("latency of one call in ms: p50 with its interval, | p99")
        _log_ticks(axes)
    return _svg(figure, "latency")


def front_plot(rows: Sequence[Row]) -> Markup:
    """Draw p50 latency against score and against size; candidates on the front are filled."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, vertical in ((upper, SCORE), (lower, SIZE)):
            _dress(axes)
            axes.set_xscale("log")
            for row in rows:
                _point(axes, row, vertical)
            axes.margins(0.12, 0.18)
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        upper.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        upper.set_ylabel("score, %")
        lower.set_yscale("log", base=2)
        lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: SIZE.show(value)))
        lower.yaxis.set_minor_formatter(NullFormatter())
        lower.set_ylabel("size")
        lower.set_xlabel("p50 latency of one call in ms")
        _log_ticks(lower)
    return _svg(figure, "front")


def standalone(plot: Markup) -> str:
    """Return a plot as the content of an SVG file: with its name spaces, and the page's light colors."""
    colors = ";".join(f"{variable}:{color}" for variable, color in _LIGHT.items())
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return plot.replace("<svg", f'<svg {spaces} style="background:#ffffff;{colors}"', 1)


def _dress(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(which="both", colors=SOFT, labelcolor=SOFT, length=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)


def _log_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _marker(row: Row) -> str:
    if row.winner:
        return "D"
    return "s" if row.result.baseline else "o"


def _draw(axes: Axes, interval: Interval, place: float, color: str, marker: str) -> None:
    axes.plot(
        [interval.low, interval.high], [place, place], color=color, linewidth=2.5, solid_capstyle="butt", alpha=0.55
    )
    axes.plot([interval.estimate], [place], color=color, marker=marker, markersize=7 if marker != "|" else 9)


def _point(axes: Axes, row: Row, vertical: Axis) -> None:
    across, upward = LATENCY.measure(row.result), vertical.measure(row.result)
    color = ACCENT if row.winner else PLAIN
    axes.errorbar(
        [across.estimate],
        [upward.estimate],
        xerr=[[across.estimate - across.low], [across.high - across.estimate]],
        yerr=[[upward.estimate - upward.low], [upward.high - upward.estimate]],
        color=color,
        marker=_marker(row),
        markersize=8,
        linewidth=1.2,
        markerfacecolor=color if row.result.on_front else PAGE,
    )
    axes.annotate(
        str(row.number),
        (across.estimate, upward.estimate),
        xytext=_OFFSETS[row.number % len(_OFFSETS)],
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
    )


def _short(row: Row) -> str:
    name = f"{row.name} ({row.knobs})" if row.knobs else row.name
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"


def _svg(figure: Figure, name: str) -> Markup:
    """Return the figure as an SVG element for an HTML page: no prolog, no metadata, no address, colors by variable."""
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text, count=2)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(
        r'\bid="((?:figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick|LineCollection)_\d+)"', "", text
    )
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    # Matplotlib escapes what it writes as text; everything else in the element is its own.
    return Markup(text)
