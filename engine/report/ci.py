"""What a CI service reads beside a report: GitHub's commands, outputs and summary, and sections of GitLab's log.

Text from data and specs stands in all of them, so each is escaped as its reader undoes it: a message cannot start a
command, an output cannot begin another one, a line cannot open or close a section.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import Place
from engine.report.clean import terminal
from engine.report.facts import facts
from engine.report.markdown import brief, markdown
from engine.report.model import Facts, Report
from engine.report.sarif import told

SUMMARY_BYTES = 1_000_000
"""GitHub refuses the summary of a step that is larger than 1 MiB."""

DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = {**DATA, ":": "%3A", ",": "%2C"}


# -- GitHub --------------------------------------------------------------------------------------------------------


def command(name: str, message: str, **properties: object) -> str:
    """A workflow command, ``::error file=spec.yaml,line=3::message``; properties without a value are left out."""
    told = ",".join(f"{key}={escaped(str(value), PROPERTY)}" for key, value in properties.items() if value)
    return f"::{name}{' ' if told else ''}{told}::{escaped(message, DATA)}"


def escaped(text: str, table: Mapping[str, str]) -> str:
    """``text`` without terminal controls, and with what would end it written out."""
    return "".join(table.get(letter, letter) for letter in terminal(text))


def commands(report: Report) -> Iterator[str]:
    """A command for each gate that did not pass and for what failed, at its place in the spec."""
    said = facts(report)
    for gate in said.gates:
        if not gate.passed:
            title = f"{said.name}: gate {'warns' if gate.mark == 'warn' else 'refuses'}"
            yield command("warning" if gate.mark == "warn" else "error", told(gate), **spot(gate.place), title=title)
    if said.status == "failed" and said.fault is not None:
        fault = said.fault
        message = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
        yield command("error", message, **spot(fault.spot), title=f"{said.name}: {fault.step or 'the run'} failed")


def spot(place: Place) -> dict[str, object]:
    """A place as a command's properties; nothing without a line."""
    return {"file": place.file, "line": place.line, "col": place.column} if place.line else {}


def outputs(report: Report) -> dict[str, str]:
    """What later steps of a job would ask for, each on one line."""
    said = facts(report)
    return {
        "run_id": said.run_id,
        "status": said.status,
        "name": said.name,
        "model": said.model if said.version is not None else "",
        "version": "" if said.version is None else str(said.version),
        "digest": f"sha256:{said.model_digest}" if said.model_digest else "",
        "metrics": json.dumps({item.name: item.value for item in said.metrics}),
    }


def output_lines(values: Mapping[str, str], delimiter: str) -> str:
    """Outputs as GITHUB_OUTPUT takes them. ``delimiter`` is a random one, new for each file that is written."""
    assert not any(delimiter in value for value in values.values())
    return "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in values.items())


def summary(report: Report, room: int = SUMMARY_BYTES) -> str:
    """The Markdown report; its main parts when it does not fit in ``room`` bytes, and nothing when they do not."""
    return next((text for make in (markdown, brief) if len((text := make(report)).encode()) <= room), "")


# -- GitLab --------------------------------------------------------------------------------------------------------


def section(name: str, title: str, body: str, moment: int, *, collapsed: bool = True) -> str:
    """A section of a GitLab job's log that opens with a click; ``moment`` is in seconds since 1970.

    ``body`` is text without terminal controls, as every renderer of reports gives it.
    """
    options = "[collapsed=true]" if collapsed else ""
    start = f"\x1b[0Ksection_start:{moment}:{name}{options}\r\x1b[0K{terminal(title)}"
    return f"{start}\n{body.rstrip()}\n\x1b[0Ksection_end:{moment}:{name}\r\x1b[0K"


def job_address(environment: Mapping[str, str]) -> str:
    """The web page of the CI job that this is, if it is one."""
    if {"GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"} <= environment.keys():
        parts: Any = (environment[key] for key in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
        return "{}/{}/actions/runs/{}".format(*parts)
    return environment.get("CI_JOB_URL", "")


def title_of(said: Facts) -> str:
    """What a section with a report is called."""
    return f"Engine report: {said.name} {said.status}"
