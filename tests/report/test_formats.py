"""Every format, for every kind of run: nothing breaks, nothing escapes, nothing is shown without its versions."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from engine.digest import sha256
from engine.report.html import html
from engine.report.markdown import markdown
from engine.report.model import Report
from engine.report.text import card, plain
from report import samples

SAMPLES: dict[str, Callable[[], Report]] = {
    "passed": samples.passed,
    "refused": samples.refused,
    "failed": samples.failed,
    "bare": samples.bare,
    "hostile": samples.hostile,
    "sixty": samples.sixty,
    "regression": lambda: Report(run=samples.run(), evaluation=samples.regression()),
    "empty": lambda: Report(run={}, evaluation={}),
}
TAGS = {"script", "iframe", "object", "embed", "link", "base", "form", "img", "a"}


def shown(report: Report, width: int = 80, *, colour: bool = False) -> str:
    console = Console(
        width=width, file=io.StringIO(), force_terminal=colour, color_system="truecolor" if colour else None
    )
    console.print(card(report))
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


FORMATS: dict[str, Callable[[Report], str]] = {"card": shown, "plain": plain, "markdown": markdown, "html": html}


class Page(HTMLParser):
    """What a browser would read: tags with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_run_renders_in_every_format_the_same_twice(name: str, form: str) -> None:
    render = FORMATS[form]
    first = render(SAMPLES[name]())
    assert first.encode()
    assert render(SAMPLES[name]()) == first


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["passed", "refused", "failed"])
def test_the_verdict_is_in_every_format(name: str, form: str) -> None:
    assert name.upper() in FORMATS[form](SAMPLES[name]())


@pytest.mark.parametrize("form", FORMATS)
def test_metrics_are_never_shown_without_model_code_and_data_versions(form: str) -> None:
    text = FORMATS[form](samples.passed())
    assert "0.6613" in text
    for version in ("late-arrivals:3", *(samples.hexadecimal(name)[:8] for name in ("model", "code", "train", "test"))):
        assert version in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_failed_run_says_what_failed_where_and_what_to_do(form: str) -> None:
    text = re.sub(r"\s+", " ", FORMATS[form](samples.failed()).replace("│", " "))
    assert "312 rows of test break specs/schemas/flights.yaml" in text
    assert "validate.test" in text
    assert "mend the data on a branch, or widen the schema" in text


# -- the terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_of_a_card_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert max(len(line) for line in shown(SAMPLES[name](), width).splitlines()) <= width


def test_a_card_of_80_columns_keeps_each_pin_on_one_line() -> None:
    line = next(line for line in shown(samples.passed(), 80).splitlines() if "07.parquet" in line)
    assert samples.hexadecimal("test")[:8] in line
    assert sha256(b"2013-h2/07.parquet")[:8] in line


def test_markup_of_rich_in_data_is_only_text() -> None:
    report = Report(run=samples.run(name="[bold red]x[/bold red] :smile:"))
    assert "[bold red]x[/bold red] :smile:" in shown(report)


@pytest.mark.parametrize("text", [plain(samples.hostile()), shown(samples.hostile()), shown(samples.hostile(), 120)])
def test_no_control_character_from_data_reaches_the_terminal(text: str) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_a_card_has_the_colour_of_its_verdict() -> None:
    assert "\x1b[1;30;42m  PASSED" in shown(samples.passed(), colour=True)
    assert "\x1b[1;30;43m  REFUSED" in shown(samples.refused(), colour=True)
    assert "\x1b[1;37;41m  FAILED" in shown(samples.failed(), colour=True)


def test_a_card_lists_a_dozen_metrics_and_counts_the_rest() -> None:
    report = Report(run=samples.run(gates=[], metrics={f"metric_{index}": index / 50 for index in range(50)}))
    assert "and 38 more metrics in the record" in shown(report)


def test_plain_lines_start_with_their_kind_in_one_column() -> None:
    first, *rest = plain(samples.passed()).splitlines()
    assert first.startswith("PASSED  late-arrivals  ")
    assert all(re.match(r"[a-z]+ +\S", line) and line[12] == " " and line[13] != " " for line in rest)


def test_plain_gates_are_a_table_that_cut_and_grep_can_read() -> None:
    found = [line for line in plain(samples.refused()).splitlines() if line.startswith("gate ")]
    assert [line.split()[1] for line in found] == ["refuse", "warn", "pass", "pass", "pass", "pass"]
    assert len({line.index(line.split()[2]) for line in found}) == 1


# -- Markdown ----------------------------------------------------------------------------------------


def columns(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_heading(name: str) -> None:
    blocks = re.findall(r"(?:^\|.*\n?)+", markdown(SAMPLES[name]()), re.MULTILINE)
    assert blocks
    assert [block for block in blocks if len({columns(row) for row in block.splitlines()}) != 1] == []


def test_markdown_has_no_tag_mention_or_link_from_data() -> None:
    spans = re.compile(r"^(`{3,}).*?^\1$|(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
    prose = spans.sub("", markdown(samples.hostile()).replace("\\`", ""))
    assert "alert" in prose
    assert not re.search(r"<script|@team|#1\b|(?<!\\)\[a\]|https://", prose)


def test_details_are_closed_and_parsed_as_markdown() -> None:
    text = markdown(samples.sixty())
    assert text.count("<details>") == text.count("</details>") == text.count("</summary>\n\n|") == 2


def test_markdown_shows_the_ten_worst_slices_and_folds_the_rest() -> None:
    before, _, folded = markdown(samples.sixty()).partition("<details>")
    assert before.count("`airport-") == 10
    assert "`airport-00`" in before
    assert folded.count("`airport-") == 50


# -- HTML --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_html_is_balanced_and_needs_nothing_from_elsewhere(name: str) -> None:
    page = Page(html(SAMPLES[name]()))
    assert page.open == []
    assert TAGS.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "action"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "hostile"])
def test_html_names_no_web_address_but_the_namespace_of_svg(name: str) -> None:
    source = html(SAMPLES[name]()).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|@import|url\(", source)


def test_html_escapes_everything_from_data() -> None:
    source = html(samples.hostile())
    assert "<script" not in source
    assert "&lt;script&gt;" in source
    assert "\x1b" not in source
    assert "\u202e" not in source


def test_html_forbids_itself_to_load_or_run_anything() -> None:
    metas = [attributes for tag, attributes in Page(html(samples.passed())).tags if tag == "meta"]
    policy = next(found for found in metas if found.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline';")


@pytest.mark.parametrize("name", SAMPLES)
def test_plots_in_a_page_are_well_formed_with_ids_of_their_own(name: str) -> None:
    page = html(SAMPLES[name]())
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_report_with_sixty_slices_draws_the_sixteen_worst_and_lists_all() -> None:
    page = html(samples.sixty())
    for svg in re.findall(r"<svg.*?</svg>", page.partition("By <code>dest")[2], re.DOTALL):
        assert svg.count("<rect") == 16
    assert "The 16 worst of 60; all are in the table." in page
    assert len(re.findall(r'<th scope="row">airport-\d\d</th>', page)) == 60


def test_curves_are_drawn_only_for_what_the_evaluation_has() -> None:
    regression, binary = html(SAMPLES["regression"]()), html(samples.passed())
    assert ("Residuals" in regression, "ROC curve" in regression) == (True, False)
    assert ("Residuals" in binary, "ROC curve" in binary, "Calibration" in binary) == (False, True, True)


def test_a_metric_with_a_refusing_gate_never_looks_passed() -> None:
    tile = re.search(r'<span class="name">roc_auc</span>.*?</li>', html(samples.refused()), re.DOTALL)
    assert tile is not None
    assert "0.64996" in tile[0]
    assert "refuse · 1 of 3 gates" in re.sub(r"\s+", " ", tile[0])


def test_html_follows_the_reader_into_the_dark_and_onto_paper() -> None:
    page = html(samples.passed())
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


@pytest.mark.parametrize("form", FORMATS)
def test_a_metric_is_shown_with_its_interval(form: str) -> None:
    ungated = Report(run=samples.run(gates=[]), evaluation=samples.evaluation())
    said = FORMATS[form](ungated)
    assert "[0.6546, 0.6680]" in said
    assert "95 %" in said


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_slice_is_shown_with_its_interval(form: str) -> None:
    report = samples.passed()
    assert report.evaluation is not None
    part = report.evaluation["slices"]["origin"][0]  # type: ignore[index]
    low, high = part["intervals"]["roc_auc"]
    assert f"[{low:.4f}, {high:.4f}]" in FORMATS[form](report)


def test_a_metric_without_an_interval_has_none_and_no_empty_column() -> None:
    metrics = {"mae": {"value": 1.5, "rows": 3, "low": None, "high": None, "confidence": 0.95, "method": None}}
    said = plain(Report(run=samples.run(gates=[], metrics={}), evaluation={"metrics": metrics}))
    assert "metric       mae  1.500  3 rows" in said


@pytest.mark.parametrize("form", ["plain", "markdown", "html"])
def test_a_report_says_by_what_rows_were_weighted(form: str) -> None:
    said = FORMATS[form](Report(run=samples.run(), evaluation=samples.evaluation(weights="seats")))
    assert "seats" in said
    assert "eight" in said


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_each_of_several_labels_is_shown_like_a_slice(form: str) -> None:
    labels = [{"value": "delayed", "rows": 9, "metrics": {"f1": 0.4321}, "intervals": {"f1": [0.4, 0.5]}}]
    said = FORMATS[form](Report(run=samples.run(), evaluation=samples.evaluation(labels=labels)))
    assert "delayed" in said
    assert "0.4321" in said
