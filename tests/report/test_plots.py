"""Plots are well-formed, say in words what they show, and draw what the data says."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from engine.report import plots
from engine.report.model import Calibration, Residuals, Roc, Slice
from report import samples

SVG = "{http://www.w3.org/2000/svg}"
ROC = Roc(fpr=(0, 0.2, 1), tpr=(0, 0.6, 1))
BINS = Calibration(predicted=(0.1, 0.9), observed=(0.2, 0.7), rows=(300, 100))
RESIDUALS = Residuals(edges=(-2, 0, 2, 4), counts=(5, 10, 1))
SLICES = tuple(Slice(value=name, rows=rows, metrics={"auc": auc}) for name, rows, auc in (("a", 9, 0.8), ("b", 7, 0.4)))
EVERY = {
    "roc": plots.roc(ROC, 0.7),
    "roc without an AUC": plots.roc(ROC, None),
    "calibration": plots.calibration(BINS),
    "one empty bin": plots.calibration(Calibration(predicted=(0.5,), observed=(0.5,), rows=(0,))),
    "residuals": plots.residual_histogram(RESIDUALS),
    "no residuals": plots.residual_histogram(Residuals(edges=(1, 1), counts=(0,))),
    "slices": plots.slice_bars("origin", "auc", SLICES, 0.6),
    "no slices": plots.slice_bars("origin", "auc", (), None),
    "negative": plots.slice_bars("o", "r2", (Slice(value="a", rows=None, metrics={"r2": -0.5}),), 0.1),
    "hostile": plots.slice_bars(
        samples.HOSTILE.replace("\x1b", "").replace("\x07", "").replace("\ud800", ""),
        "m",
        (Slice(value='<b>"&', rows=1, metrics={"m": 1.0}),),
        None,
    ),
}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [(found.text or "") for found in parsed(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", EVERY)
def test_every_plot_is_well_formed_and_described(name: str) -> None:
    root = parsed(EVERY[name])
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    ids = (root.get("aria-labelledby") or "").split()
    heads = {found.get("id"): found.text for found in root if found.tag in (f"{SVG}title", f"{SVG}desc")}
    assert list(heads) == ids
    assert all(heads.values())


SHAPES = {
    "rect": ("x", "y", "width", "height"),
    "line": ("x1", "y1", "x2", "y2"),
    "circle": ("cx", "cy", "r"),
    "text": ("x", "y"),
}


def corners(root: ElementTree.Element) -> list[tuple[float, float]]:
    """The points that the shapes of a plot reach to."""
    found: list[tuple[float, float]] = []
    for shape, keys in SHAPES.items():
        for element in root.iter(f"{SVG}{shape}"):
            numbers = [float(element.get(key) or "nan") for key in keys]
            x, y, *more = numbers
            found.append((x, y))
            if shape == "rect":
                found.append((x + more[0], y + more[1]))
            if shape == "line":
                found.append((more[0], more[1]))
            if shape == "circle":
                found += [(x - more[0], y - more[0]), (x + more[0], y + more[0])]
    for element in (*root.iter(f"{SVG}polyline"), *root.iter(f"{SVG}polygon")):
        for point in (element.get("points") or "nan,nan").split():
            x, y = map(float, point.split(","))
            found.append((x, y))
    return found


@pytest.mark.parametrize("name", EVERY)
def test_no_coordinate_is_nan_or_outside_the_picture(name: str) -> None:
    root = parsed(EVERY[name])
    width, height = (float(part) for part in (root.get("viewBox") or "").split()[2:])
    reached = corners(root)
    assert reached
    assert [point for point in reached if not (0 <= point[0] <= width + 1 and 0 <= point[1] <= height + 1)] == []


def test_the_roc_curve_starts_at_its_origin_and_ends_in_the_far_corner() -> None:
    line = next(parsed(EVERY["roc"]).iter(f"{SVG}polyline")).get("points") or ""
    first, *_, last = line.split()
    floor, left = plots.HEIGHT - plots.BOTTOM, plots.LEFT
    assert first == f"{left},{floor}"
    assert last == f"{plots.WIDTH - plots.RIGHT},{plots.TOP}"


def test_a_curve_of_many_points_is_thinned_and_keeps_its_ends() -> None:
    many = [(index / 99_999, index / 99_999) for index in range(100_000)]
    thin = plots.thinned(many)
    assert len(thin) == plots.MOST_POINTS
    assert (thin[0], thin[-1]) == (many[0], many[-1])


def test_a_bar_twice_as_long_means_twice_as_much() -> None:
    worst, best = (float(found.get("width") or 0) for found in parsed(EVERY["slices"]).iter(f"{SVG}rect"))
    assert best == pytest.approx(2 * worst, abs=0.2)


def test_slices_show_value_and_rows_the_worst_first() -> None:
    shown = texts(EVERY["slices"])
    assert shown[:8] == ["value", "rows", "b", "0.4000", "7", "a", "0.8000", "9"]
    assert "all 0.6000" in shown


def test_calibration_error_weighs_bins_by_their_rows() -> None:
    assert plots.calibration_error(BINS) == pytest.approx((300 * 0.1 + 100 * 0.2) / 400)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (-60, 120, [-50, 0, 50, 100]), (0, 5200, [0, 2000, 4000]), (7, 7, [7, 7.5, 8])],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert plots.nice_ticks(low, high, 4) == pytest.approx(ticks)


def test_a_long_name_is_shortened_and_whole_in_its_tip() -> None:
    svg = plots.slice_bars("c", "m", (Slice(value="a-very-long-airport-name", rows=1, metrics={"m": 1}),), None)
    tip = next(found for found in parsed(svg).iter(f"{SVG}text") if len(found))
    assert tip[0].text == "a-very-long-airport-name"
    assert re.fullmatch(r"a-very-lon…", tip[0].tail or "")
