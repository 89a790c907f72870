"""The page of a model in production: it shows all that happened, escapes what it is told, and needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.monitor.distributions import of_categories, of_numbers
from engine.monitor.model import Window
from engine.observe.timeline import Alert, Beside, DataCommit, Lane, Promotion, Span, Timeline
from engine.report import monitor_plots, words
from engine.report.monitor import page
from report.samples import HOSTILE, hexadecimal

START = datetime(2026, 3, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br", "hr", "img", "link"}


def at(days: float) -> datetime:
    return START + timedelta(days=days)


def row(kind: str, metric: str, version: int, month: int, value: float, **more: Any) -> dict[str, Any]:
    """A figure as the table gives it."""
    start = None if kind == "test" else datetime(2026, month, 1, tzinfo=UTC)
    end = None if kind == "test" else datetime(2026, month + 1, 1, tzinfo=UTC)
    return {
        "model": "m", "version": version, "alias": "" if kind == "test" else "production", "slice": "", "kind": kind,
        "metric": metric, "detector": "", "feature": "", "window": "" if kind == "test" else "month", "window_start": start, "window_end": end,
        "rows": 100, "n": 80, "value": value, "low": value - 0.01, "high": value + 0.01, "confidence": 0.95,
        "method": "x", "distance": None, "limit": None, "alarm": False, "error": None, "run": hexadecimal("r"),
        "code_commit": hexadecimal("c")[:40], "code_digest": hexadecimal("d"), "train_uri": "lakefs://a/main/t",
        "train_commit": hexadecimal(f"t{version}"), "train_digest": hexadecimal("e"), "data": "{}", "computed": START,
        **more,
    }  # fmt: skip


def drift(feature: str, version: int, end: datetime, p_val: float, *, alarm: bool) -> dict[str, Any]:
    """A test for drift as the table gives it."""
    more = {"window": "100", "window_start": end - timedelta(days=1), "window_end": end, "detector": "inputs",
            "feature": feature, "distance": 1 - p_val, "limit": 0.01, "alarm": alarm}  # fmt: skip
    return row("drift", "p_value", version, 3, p_val, **more)


def lane(version: int, first: float, last: float, alias: str = "production") -> Lane:
    return Lane(
        version=version,
        created=at(first - 2),
        run=hexadecimal(f"run{version}"),
        code=hexadecimal("c")[:40],
        train={"uri": "lakefs://a/main/t", "commit": hexadecimal(f"t{version}"), "digest": hexadecimal("e")},
        aliases=(alias,),
        spans=(Span(alias=alias, start=at(first), end=at(last), rows=1000 * version),),
    )


def sample(name: str = "flights", text: str = "") -> Timeline:
    """Two versions over three months, with everything that a page can show; ``text`` stands in all free text."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(1)
    numbers = of_numbers(f"x{text}", random.normal(size=500), random.normal(1, 1, 200))
    words_ = of_categories("carrier", pa.chunked_array([["AA", "B6"] * 50]), pa.chunked_array([["AA"] * 90]))
    words_ = replace(words_, labels=tuple(f"{label}{text}" for label in words_.labels))
    window = Window(size="100", start=at(80), end=at(90), rows=200)
    figures = [row("test", "auc", version, 3, 0.7 + version / 100) for version in (1, 2)]
    figures += [row("live", "auc", 1 if month < 5 else 2, month, 0.6 + month / 50, limit=0.6) for month in (3, 4, 5)]
    figures += [row("estimated", "auc", 1 if month < 5 else 2, month, 0.65, error=0.01) for month in (3, 4, 5)]
    figures += [drift(f"x{text}", 2, at(70 + day), 0.5 / (day + 1), alarm=day > 2) for day in range(6)]
    figures += [drift("carrier", 2, at(70 + day), 0.4, alarm=False) for day in range(6)]
    return Timeline(
        model=name,
        start=at(0),
        end=at(90),
        alias="production",
        lanes=(lane(1, 0, 45), lane(2, 45, 90)),
        promotions=(
            Promotion(moment=at(0), alias="production", version=1, how="promoted", why=text, who=f"ann{text}"),
            Promotion(moment=at(45), alias="production", version=2, how="promoted", why="better", who="ann"),
        ),
        commits=(
            DataCommit(moment=at(-3), id=hexadecimal("t1"), uri="lakefs://a/main", message="march", versions=(1,)),
            DataCommit(moment=at(20), id=hexadecimal("o"), uri="lakefs://a/main", message=f"x{text}", versions=()),
            DataCommit(moment=at(40), id=hexadecimal("t2"), uri="lakefs://a/main", message="april", versions=(2,)),
        ),
        alerts=(
            Alert(moment=at(60), version=2, alias="production", signal="schema", text=f"bad {text}"),
            Alert(moment=at(75), version=2, alias="production", signal="drift", text="drift of x", features=("x",)),
        ),
        figures=tuple(figures),
        beside=(Beside(version=2, alias="production", window=window, distributions={"x": numbers, "carrier": words_}),),
        notes=(text,) if text else (),
    )


def empty() -> Timeline:
    """A model that was registered, and never asked."""
    made = replace(lane(1, 0, 1), spans=(), train={})
    return Timeline(model="m", start=at(0), end=at(0), alias="production", lanes=(made,))


SAMPLES = {
    "full": sample(),
    "hostile": sample(text=HOSTILE),
    "empty": empty(),
    "only tests": replace(empty(), figures=(row("test", "auc", 1, 3, 0.7, low=None, high=None),)),
    "a moment": replace(sample(), start=at(1), end=at(1), commits=(), promotions=(), alerts=()),
    "no labels": replace(sample(), figures=tuple(item for item in sample().figures if item["kind"] != "live")),
}


class Page(HTMLParser):
    """What a page consists of; it fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_is_balanced_and_loads_nothing(name: str) -> None:
    found = Page(page(SAMPLES[name])).tags
    assert {tag for tag, _ in found}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    for _, attributes in found:
        assert not any(key in ("src", "href", "srcset") or key.startswith("on") for key in attributes)
    policy = next(attributes for tag, attributes in found if attributes.get("http-equiv"))
    assert "default-src 'none'" in str(policy["content"])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_names_no_web_address_but_the_namespace_of_svg(name: str) -> None:
    source = page(SAMPLES[name]).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in re.sub(r"http-equiv|https://evil\.test", "", source)


def test_what_comes_from_data_and_people_is_escaped() -> None:
    source = page(SAMPLES["hostile"])
    assert "<script" not in source
    assert "&lt;script&gt;" in source
    assert {"\x1b", "\x07", "\u202e", "\ud800"}.isdisjoint(source)
    source.encode()


def plots_in(source: str) -> list[ElementTree.Element]:
    """The plots of a page, each of which is a document that can be parsed."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", source, re.DOTALL)]


def bands(root: ElementTree.Element) -> dict[int, tuple[float, float]]:
    """Where each version's band begins and ends."""
    found = [item for item in root.iter(f"{SVG}rect") if (item.get("class") or "").startswith("band")]
    return {
        int(item.get("data-version") or 0): (
            float(item.get("x") or 0),
            float(item.get("x") or 0) + float(item.get("width") or 0),
        )
        for item in found
    }


def test_every_version_that_answered_has_a_band_and_every_version_a_lane() -> None:
    line = replace(sample(), lanes=(lane(1, 0, 45), lane(2, 45, 90), replace(lane(3, 60, 61), spans=())))
    root = ElementTree.fromstring(monitor_plots.time_line(line))
    assert set(bands(root)) == {1, 2}
    labels = [item.text for item in root.iter(f"{SVG}text")]
    assert {"v1", "v2", "v3"} <= set(labels)


def test_bands_lie_as_the_times_do() -> None:
    found = bands(ElementTree.fromstring(monitor_plots.time_line(sample())))
    (first, middle), (again, last) = found[1], found[2]
    assert middle == pytest.approx(again, abs=0.11)
    assert middle - first == pytest.approx(last - again, abs=0.21)


def classes(root: ElementTree.Element, tag: str) -> list[str]:
    return [item.get("class") or "" for item in root.iter(f"{SVG}{tag}")]


def test_every_promotion_commit_and_alarm_has_a_mark() -> None:
    root = ElementTree.fromstring(monitor_plots.time_line(sample()))
    assert classes(root, "line").count("over") == 2
    assert sorted(classes(root, "polygon")) == ["mark", "mark learned", "mark learned"]
    assert classes(root, "circle").count("alarm") == 2


def test_a_promotion_long_ago_does_not_squeeze_the_time_line() -> None:
    long_ago = Promotion(moment=at(-4000), alias="production", version=1, how="promoted", why="", who="x")
    line = replace(sample(), promotions=(long_ago, *sample().promotions))
    assert bands(ElementTree.fromstring(monitor_plots.time_line(line))) == bands(
        ElementTree.fromstring(monitor_plots.time_line(sample()))
    )
    assert monitor_plots.day(long_ago.moment) in page(line)


def test_each_window_is_a_point_measured_and_estimated_with_its_interval() -> None:
    rows = [item for item in sample().figures if item["metric"] == "auc"]
    root = ElementTree.fromstring(monitor_plots.metric_line("auc", sample(), rows))
    assert classes(root, "circle").count("point") == 3 + 1  # one is the key
    assert classes(root, "circle").count("estimate hollow") == 3 + 1
    assert classes(root, "line").count("whisker") == 3
    assert classes(root, "line").count("rule") == 2 + 1


def test_a_figure_beyond_its_limit_is_marked() -> None:
    bad = [{**item, "alarm": item["kind"] == "live"} for item in sample().figures if item["metric"] == "auc"]
    root = ElementTree.fromstring(monitor_plots.metric_line("auc", sample(), bad))
    assert classes(root, "circle").count("alarm") == 3
    assert 'class="value refuse"' in page(replace(sample(), figures=tuple(bad)))


def test_a_feature_shows_both_distributions() -> None:
    found = sample().beside[0].distributions
    numeric = ElementTree.fromstring(monitor_plots.feature_plot(found["x"], sample(), []))
    assert classes(numeric, "rect").count("bar") == len(found["x"].window)
    assert classes(numeric, "polyline").count("ghost") == 1
    words_ = ElementTree.fromstring(monitor_plots.feature_plot(found["carrier"], sample(), []))
    assert (
        classes(words_, "rect").count("bar") == classes(words_, "line").count("ghost") == len(found["carrier"].labels)
    )


def test_features_with_alarms_come_first() -> None:
    source = page(sample())
    assert source.index("<h3>x</h3>") < source.index("<h3>carrier</h3>")
    assert "3 of 6 windows with an alarm" in source


def test_every_version_is_beside_its_run_its_code_and_its_data() -> None:
    source = page(sample())
    for one in sample().lanes:
        for digest in (one.run, one.code, one.train["commit"]):
            assert f'<code title="{digest}">{words.short(digest)}</code>' in source


def test_the_head_says_what_the_last_version_gave() -> None:
    assert "2 ALARMS" in page(sample())
    assert "NO ALARM" in page(replace(sample(), alerts=()))
    assert "NOT ASKED YET" in page(empty())
    of_first = replace(sample(), alerts=(replace(sample().alerts[0], version=1),))
    assert "NO ALARM" in page(of_first)


def test_alarms_beyond_the_newest_are_counted_and_not_listed() -> None:
    many = tuple(replace(sample().alerts[0], moment=at(day / 10), text=f"alarm {day}") for day in range(200))
    source = page(replace(sample(), alerts=many))
    assert "200 alarms, the newest 50 of them" in source
    assert "alarm 199" in source.partition('id="alarms"')[2]
    assert "alarm 149<" not in source.partition('id="alarms"')[2]


@pytest.mark.parametrize("days", [1 / 1440, 0.02, 0.3, 2, 9, 40, 200, 900, 9000])
def test_ticks_are_few_in_order_and_on_the_axis(days: float) -> None:
    axis = monitor_plots.Time(low=at(0.013), high=at(0.013 + days), start=0, end=100)
    found = monitor_plots.ticks_of(axis)
    assert len(found) <= monitor_plots.MOST_TICKS + 1
    moments = [moment for moment, _ in found]
    assert moments == sorted(set(moments))
    assert all(axis.has(moment) for moment in moments)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_plot_is_well_formed_and_has_no_number_that_is_none(name: str) -> None:
    found = plots_in(page(SAMPLES[name]))
    assert found
    for root in found:
        for item in root.iter():
            assert not any(value in ("nan", "inf", "-inf") for value in item.attrib.values())
