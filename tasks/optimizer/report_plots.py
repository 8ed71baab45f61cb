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
from registry.records.optimization import Sensitivity
from tasks.optimizer.pareto import LATENCY, SCORE, SIZE, Axis, latency_at_smallest_batch
from tasks.optimizer.report_labels import Point, place_labels
from tasks.optimizer.report_rows import Group, Row

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

_WIDTH_IN = 3.8
_STYLE = {"svg.fonttype": "none", "font.size": 9.5, "text.color": INK, "axes.labelcolor": SOFT}
_MAX_LABEL = 50
_FONT_PT = 8.5

MOST_LATENCIES = 14
"""Candidates in the latency plot; the table has all."""
MOST_LAYERS = 24
"""Layers in the sensitivity plot; the list beside it has all."""


def latency_plot(rows: Sequence[Row]) -> Markup:
    """Draw p50 and p99 of the first measured candidates with intervals, on a logarithmic axis."""
    shown = rows[:MOST_LATENCIES]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 0.75 + 0.46 * len(shown)), layout="constrained")
        axes = figure.subplots()
        _dress(axes)
        axes.set_xscale("log")
        for place, row in enumerate(shown):
            figures = latency_at_smallest_batch(row.result)
            color = ACCENT if row.winner else PLAIN
            _draw(axes, figures.latency_p99_ms, -place, SOFT, "|")
            _draw(axes, figures.latency_p50_ms, -place, color, _marker(row))
            _name_row(axes, f"{row.number}  {_short(row)}", -place)
        axes.set_ylim(-len(shown) + 0.55, 0.75)
        axes.set_yticks([])
        axes.set_xlabel("ms a call: p50 with its interval, | p99")
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
            for row in reversed(rows):  # what stands first is drawn last, above the others
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
        figure.draw_without_rendering()  # the places of points are known only after the layout
        for axes, vertical in ((upper, SCORE), (lower, SIZE)):
            _number(axes, rows, vertical)
    return _svg(figure, "front")


def sensitivity_plot(sensitivity: Sensitivity, in_float: frozenset[str]) -> Markup:
    """Draw what int8 of each layer alone costs, the costliest first; layers that were left in float are marked."""
    shown = sensitivity.layers[:MOST_LAYERS]
    least = min((layer.error for layer in shown if layer.error > 0), default=1e-12)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 0.75 + 0.36 * len(shown)), layout="constrained")
        axes = figure.subplots()
        _dress(axes)
        axes.set_xscale("log")
        for place, layer in enumerate(shown):
            kept = layer.layer in in_float
            color = ACCENT if kept else PLAIN
            error = max(layer.error, least)
            axes.plot([least / 2, error], [-place, -place], color=color, linewidth=2.5, alpha=0.55)
            axes.plot([error], [-place], color=color, marker="D" if kept else "o", markersize=6)
            name = f"{layer.layer} ({layer.operator}{', left in float' if kept else ''})"
            _name_row(axes, name if len(name) <= _MAX_LABEL else f"…{name[1 - _MAX_LABEL :]}", -place)
        axes.set_xlim(left=least / 2)
        axes.set_ylim(-len(shown) + 0.55, 0.75)
        axes.set_yticks([])
        axes.set_xlabel("error of the answers, as a share of their variance")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return _svg(figure, "sensitivity")


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
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_row(axes: Axes, name: str, place: float) -> None:
    """Write a row's name above its line, from the left edge."""
    across = axes.get_yaxis_transform()
    axes.text(0, place + 0.34, name, transform=across, va="center", fontsize=_FONT_PT, color=INK, parse_math=False)


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
    if row.group is Group.NEAR:
        axes.plot(
            [across.estimate],
            [upward.estimate],
            color=color,
            marker="o",
            markersize=4.5,
            markerfacecolor=PAGE,
            alpha=0.7,
        )
        return
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


def _number(axes: Axes, rows: Sequence[Row], vertical: Axis) -> None:
    """Write the numbers of the table beside the front's points, where there is room; the first are served first."""
    estimates = [(LATENCY.measure(row.result).estimate, vertical.measure(row.result).estimate) for row in rows]
    points_per_pixel = 72 / axes.figure.dpi
    places = axes.transData.transform(estimates) * points_per_pixel
    frame = axes.get_window_extent()
    within = (frame.x0 * points_per_pixel, frame.y0 * points_per_pixel, frame.x1 * points_per_pixel)
    points = [
        Point("", float(x), float(y), radius=2.5)
        if row.group is Group.NEAR
        else Point(str(row.number), float(x), float(y), radius=4.5)
        for row, (x, y) in zip(rows, places, strict=True)
    ]
    offsets = place_labels(points, _FONT_PT, within)
    for estimate, point, offset in zip(estimates, points, offsets, strict=True):
        if offset is not None and point.label:
            axes.annotate(
                point.label, estimate, xytext=offset, textcoords="offset points", fontsize=_FONT_PT, color=INK
            )


def _short(row: Row) -> str:
    knobs = re.sub(r"\w+: ", "", row.knobs)  # whose knob it is, the table says
    name = f"{row.name} ({knobs})" if knobs else row.name
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
