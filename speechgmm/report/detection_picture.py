"""Pictures of how well speakers are told apart: DET plot, Tippett plot, and the trade-off of open-set recognition."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.metrics.detection import Point, Tippett
from speechgmm.metrics.trial_scores import DetectionCurve
from speechgmm.report.pictures import require_format, shortened, styled, write_picture
from speechgmm.verification.open_set import OpenSetCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Float64s = NDArray[np.float64]
# What the legend says of each line.
Legend: TypeAlias = "list[tuple[Line2D, str]]"

# Inches: of the panel, about, and of each line of the legend below it, which would hide curves inside.
WIDTH, HEIGHT, LINE = 4.8, 4.8, 0.15
# Characters of a system's name; the middle of a longer one is left out.
LONGEST_NAME = 30
# Told apart also by those who see few colours, and in print by their lines. After Okabe and Ito.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "vsD^"
# Rates that a DET plot may begin at, and others that it has marks at.
BEGINNINGS = (1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02)
RATES = (*BEGINNINGS, 0.05, 0.1, 0.2, 0.4)
HIGHEST = 0.6
# Points of a straight line between two thresholds, which is bent on these axes.
BENT = 50


def det_picture(
    curves: Mapping[str, DetectionCurve],
    output: str | Path | None = None,
    *,
    points: Sequence[Point] = ((0.01, 1.0, 1.0),),
    hull: bool = False,
    title: str = "",
) -> "Figure":
    """Draw misses over false alarms on probit axes, on which normal scores give straight lines.

    Each system's equal error rate is marked with a ring, and where its detection cost is least with a sign for each
    operating point; marks of rates that lie off the picture are at its edge. The legend lists these figures, costs in
    the order of the points.

    Parameters
    ----------
    curves : mapping of str to DetectionCurve
        Of each system by name, in the order to be listed; see `speechgmm.metrics.detection.detection_curve`.
    output : str or Path, optional
        Where to write the picture: a PNG, PDF or SVG file, by its suffix. The same input gives the same bytes.
    points : sequence of (p_target, c_miss, c_fa)
        Up to four, or none; see `speechgmm.metrics.detection.min_dcf`.
    hull : bool
        Whether to draw the convex hulls too, which the equal error rates are of.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is no curve, or one of another kind, `points` are more than four or out of range, `output` has another
        suffix or cannot be written, or matplotlib is missing.

    References
    ----------
    Martin et al. (1997), The DET Curve in Assessment of Detection Task Performance, Eurospeech.
    """
    _require(curves, "curves", DetectionCurve)
    if len(points) > len(MARKERS):
        raise InputError(
            f"`points` holds {len(points)} operating points; a picture has signs for {len(MARKERS)}"
        )

    def draw(axes: "Axes") -> Legend:
        lowest = _lowest_rate(curves.values())
        legend = [
            _draw_det(axes, name, curve, points, hull, lowest, _look(number))
            for number, (name, curve) in enumerate(curves.items())
        ]
        _probit_axes(axes, lowest)
        signs = ["equal error rate", *(f"min DCF({_short(point)})" for point in points)]
        # In the legend only: one that belongs to no system, and has no place.
        marks = (_mark(axes, marker, np.nan, np.nan, "0.4") for marker in f"o{MARKERS}")
        return [*legend, *zip(marks, signs, strict=False)]

    return _picture(draw, title, output)


def tippett_picture(
    tippetts: Mapping[str, Tippett], output: str | Path | None = None, *, title: str = ""
) -> "Figure":
    """Draw which shares of targets and of nontargets have an llr greater than each value.

    Targets left of 0 and nontargets right of it are misleading evidence.

    Parameters
    ----------
    tippetts : mapping of str to Tippett
        Of each system by name, in the order to be listed; see `speechgmm.metrics.detection.tippett`.
    output, title
        As in `det_picture`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        As `det_picture`.

    References
    ----------
    Tippett et al. (1968), J. Forensic Sci. Soc. 8.
    """
    _require(tippetts, "tippetts", Tippett)

    def draw(axes: "Axes") -> Legend:
        legend = []
        for number, (name, tippett) in enumerate(tippetts.items()):
            kinds = (("targets", tippett.targets, "-"), ("nontargets", tippett.nontargets, "--"))
            for kind, shares, line in kinds:
                look = {"color": _look(number)["color"], "linestyle": line, "drawstyle": "steps-post"}
                (drawn,) = axes.plot(tippett.values, 100 * shares, linewidth=1.0, **look)
                legend.append((drawn, f"{_named(name)}{kind}"))
        axes.axvline(0.0, color="0.7", linewidth=0.6, zorder=0)
        axes.set_ylim(-1.0, 101.0)
        axes.set_xlabel("Log-likelihood ratio of the trial (natural log)")
        axes.set_ylabel("Trials with a greater one (%)")
        return legend

    return _picture(draw, title, output)


def open_set_picture(
    curves: Mapping[str, OpenSetCurve],
    output: str | Path | None = None,
    *,
    rate: float = 0.01,
    title: str = "",
) -> "Figure":
    """Draw how many known speakers are detected and identified, over how many unknown ones are taken for somebody.

    Parameters
    ----------
    curves : mapping of str to OpenSetCurve
        Of each system by name, in the order to be listed; see `speechgmm.verification.open_set.open_set_curve`.
    rate : float
        Of false alarms, a fraction from 0 to 1: what can be had with no more of them is marked and listed.
    output, title
        As in `det_picture`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        As `det_picture`, and if `rate` is no fraction.

    References
    ----------
    Phillips, Grother, Micheals (2011), Evaluation Methods in Face Recognition, in: Handbook of Face Recognition,
    2nd ed., chapter 21.
    """
    _require(curves, "curves", OpenSetCurve)
    best = {name: curve.at_false_alarm(rate) for name, curve in curves.items()}

    def draw(axes: "Axes") -> Legend:
        legend = []
        alarms = np.concatenate([curve.false_alarm for curve in curves.values()])
        lowest = float(10.0 ** np.floor(np.log10(min(alarms[alarms > 0].min(), 0.1))))
        for number, (name, curve) in enumerate(curves.items()):
            look, at = _look(number), best[name]
            # Without false alarms: off the picture, to the left.
            x = np.maximum(curve.false_alarm, lowest / 10)
            (drawn,) = axes.plot(100 * x, 100 * curve.detection, linewidth=1.0, **look)
            _mark(axes, "o", 100 * max(at.false_alarm, lowest), 100 * at.detection, look["color"])
            text = f"{100 * at.detection:.3g} % at {100 * rate:.3g} % false alarms"
            legend.append((drawn, f"{_named(name)}{text}"))
        axes.set_xscale("log")
        axes.set_xlim(100 * lowest, 100.0)
        axes.set_ylim(0.0, 101.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("Unknown speakers taken for somebody (false alarms, %)")
        axes.set_ylabel("Known speakers accepted as themselves (%)")
        axes.grid(color="0.9", linewidth=0.5)
        return legend

    return _picture(draw, title, output)


def _require(drawn: Mapping[str, Any], name: str, kind: type) -> None:
    """Refuse what is no mapping of names to things of a kind, or holds none."""
    if not isinstance(drawn, Mapping) or not drawn:
        raise InputError(f"`{name}` must be a {kind.__name__} for each name, at least 1")
    for system, value in drawn.items():
        if not isinstance(value, kind):
            raise InputError(
                f"`{name}[{system!r}]` is of type {type(value).__name__}; it must be a {kind.__name__}"
            )


def _picture(draw: Callable[["Axes"], Legend], title: str, output: str | Path | None) -> "Figure":
    """A figure with one panel and a legend, in the look of all pictures; written where that is asked for."""
    if output is not None:
        require_format(output)
    with styled():
        from matplotlib.figure import Figure

        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        lines, names = zip(*draw(axes), strict=True)
        axes.set_title(title, parse_math=False)
        figure.set_size_inches(WIDTH, HEIGHT + LINE * len(lines))
        numbers = [str(number) for number in range(len(lines))]
        legend = figure.legend(lines, numbers, loc="outside lower center", fontsize=7, frameon=False)
        for text, name in zip(legend.get_texts(), names, strict=True):
            # Not through matplotlib's labels, which may not begin with a line and mean formulas by dollars.
            text.set(text=name, parse_math=False)
        if output is not None:
            write_picture(figure, output)
    return figure


def _look(number: int) -> dict[str, Any]:
    """Colour and line of a system."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number // len(COLOURS) % len(LINES)],
    }


def _mark(axes: "Axes", marker: str, x: float, y: float, colour: str) -> "Line2D":
    fill, size = ("none", 6) if marker == "o" else ("full", 4)
    look: dict[str, Any] = {
        "color": colour,
        "fillstyle": fill,
        "markersize": size,
        "clip_on": False,
        "zorder": 3,
    }
    (drawn,) = axes.plot([x], [y], marker, **look)
    return drawn


def _draw_det(
    axes: "Axes",
    name: str,
    curve: DetectionCurve,
    points: Sequence[Point],
    hull: bool,
    lowest: float,
    look: dict[str, Any],
) -> "tuple[Line2D, str]":
    """Draw one system; return its line and what is said of it."""

    def place(rate: float) -> float:
        return float(_probit(np.clip(rate, lowest, HIGHEST)))

    (drawn,) = axes.plot(_probit(curve.p_fa), _probit(curve.p_miss), linewidth=1.0, **look)
    if hull:
        axes.plot(*map(_probit, _bent(*curve.hull)), linewidth=0.5, color=look["color"], alpha=0.6)
    _mark(axes, "o", place(curve.eer), place(curve.eer), look["color"])
    for point, marker in zip(points, MARKERS, strict=False):
        best = curve.cheapest(*point)
        _mark(axes, marker, place(curve.p_fa[best]), place(curve.p_miss[best]), look["color"])
    costs = ", ".join(f"{curve.min_dcf(*point):.3f}" for point in points)
    said = f"{_named(name)}EER {100 * curve.eer:.3g} %"
    return drawn, f"{said}, min DCF {costs}" if costs else said


def _named(name: str) -> str:
    """The name of a system at the head of its line in the legend."""
    return f"{shortened(name, LONGEST_NAME)}: "


def _short(point: Point) -> str:
    """An operating point in few letters: the probability of a target, and costs where they are not 1."""
    return ", ".join(f"{value:g}" for value in (point[:1] if point[1] == point[2] == 1 else point))


def _bent(p_fa: Float64s, p_miss: Float64s) -> tuple[Float64s, Float64s]:
    """Points of straight lines between corners, close enough for axes on which those are bent."""
    steps = np.arange((len(p_fa) - 1) * BENT + 1) / BENT
    corners = np.arange(len(p_fa))
    return np.interp(steps, corners, p_fa), np.interp(steps, corners, p_miss)


def _lowest_rate(curves: Any) -> float:
    """The rate that a DET plot begins at, on both axes: a mark below the least error rate but 0 of all curves."""
    rates = np.concatenate([rate for curve in curves for rate in (curve.p_fa, curve.p_miss)])
    least = rates[rates > 0].min()
    return max([rate for rate in BEGINNINGS if rate <= least], default=BEGINNINGS[0])


def _probit(rates: Any) -> Any:
    """Standard normal deviates; of 0 and 1 ones that are far off every picture, but finite."""
    from scipy.special import ndtri

    return ndtri(np.clip(rates, 1e-9, 1 - 1e-9))


def _probit_axes(axes: "Axes", lowest: float) -> None:
    """Marks and limits of both axes, and what both have in common."""
    rates = [rate for rate in RATES if rate >= lowest]
    limits = _probit(np.array([lowest, HIGHEST]))
    for axis, set_limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        axis.set_ticks(_probit(np.array(rates)), [f"{100 * rate:g}" for rate in rates])
        set_limits(*limits)
    axes.plot(limits, limits, color="0.7", linewidth=0.6, zorder=0)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_xlabel("False alarms (%)")
    axes.set_ylabel("Misses (%)")
