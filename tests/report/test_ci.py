"""What CI services read cannot be written by data: no command, no output, no section."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engine.errors import Place
from engine.report import ci
from engine.report.model import Report
from report import samples

EVIL = [
    "x\n::error::injected",
    "x\r::set-output name=a::b",
    "a::b,file=c",
    "100%0A::error::x",
    "x\nstatus<<x\nrefused\nx",
    "\x1b[0Ksection_end:0:engine\r\x1b[0K",
    "\u2028::warning::x",
    samples.HOSTILE,
]
SECTION = re.compile("section_(?:start|end):\\d+:[a-zA-Z0-9_.-]+(?:\\[.*?\\])?\r\x1b\\[0K")
"""What opens or closes a section for GitLab."""


def refused(text: str) -> Report:
    gates = [samples.gate(text, 0.1, 0.6, text, passed=False)]
    run = samples.run(status="refused", name=text, gates=gates, metrics={text: 0.5})
    return Report(run=run, places={text: Place(file=text, line=3, column=2)})


def read_back(line: str) -> tuple[str, dict[str, str], str]:
    """A command as the runner reads it."""
    head, _, data = line.removeprefix("::").partition("::")
    name, _, properties = head.partition(" ")
    pairs = [pair.split("=", 1) for pair in properties.split(",")] if properties else []
    return name, {key: unescaped(value) for key, value in pairs}, unescaped(data)


def unescaped(text: str) -> str:
    for written, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(written, meant)
    return text


@pytest.mark.parametrize("text", EVIL)
def test_a_message_from_data_stays_inside_its_command(text: str) -> None:
    (line,) = ci.commands(refused(text))
    assert len(line.splitlines()) == 1
    name, properties, message = read_back(line)
    assert name == "error"
    assert list(properties) == ["file", "line", "col", "title"]
    assert (properties["line"], properties["col"]) == ("3", "2")
    assert message.startswith("gate ")


@pytest.mark.parametrize("text", EVIL)
def test_an_output_is_what_is_between_its_delimiters_and_no_other_begins_in_it(text: str) -> None:
    values = ci.outputs(refused(text))
    lines = ci.output_lines(values, "engine-0123").splitlines()
    assert lines == [line for name, value in values.items() for line in (f"{name}<<engine-0123", value, "engine-0123")]


@pytest.mark.parametrize("text", EVIL)
def test_a_section_has_one_start_and_one_end(text: str) -> None:
    report = refused(text)
    section = ci.section("engine_1", text, ci.summary(report), 1)
    assert len(SECTION.findall(section)) == section.count("\r") == 2


def test_a_summary_that_is_too_large_is_its_main_parts_and_then_nothing() -> None:
    report = samples.sixty()
    whole = ci.summary(report)
    brief = ci.summary(report, len(whole.encode()) - 1)
    assert "airport-59" in whole
    assert "airport-59" not in brief
    assert "### Gates" in brief
    assert ci.summary(report, 10) == ""


def test_the_address_of_the_job_is_that_of_the_service() -> None:
    github = {"GITHUB_SERVER_URL": "https://github.test", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7"}
    assert ci.job_address(github) == "https://github.test/a/b/actions/runs/7"
    assert ci.job_address({"CI_JOB_URL": "https://gitlab.test/j/1"}) == "https://gitlab.test/j/1"
    assert ci.job_address({}) == ""


def test_a_place_without_a_line_gives_no_properties() -> None:
    report = replace(samples.refused(), places={})
    assert next(iter(ci.commands(report))).startswith("::error title=late-arrivals%3A gate refuses::gate roc_auc.min: ")
