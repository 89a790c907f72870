"""A run as ``KEY=value`` lines, as GitLab's dotenv reports, ``docker --env-file`` and a shell's ``source`` take them.

GitLab takes neither quotes, comments nor empty lines, so a value that needs no quotes has none. All that a run says of
itself needs none; what else might come is quoted in the way that a shell reads, and cannot be executed by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.report.facts import facts
from engine.report.model import Facts, Report

PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+,=-]*")
"""Values that mean themselves in every reader, without quotes."""


def dotenv(report: Report) -> str:
    """A line each for the run, its status, its model and every metric; each key once. Ends with a newline."""
    found: dict[str, str] = {}
    for key, value in variables(facts(report)):
        found.setdefault(key, value)
    return "".join(f"{key}={quoted(value)}\n" for key, value in found.items())


def variables(said: Facts) -> Iterator[tuple[str, str]]:
    """What a later job would ask for."""
    yield "ENGINE_RUN_ID", said.run_id
    yield "ENGINE_STATUS", said.status
    yield "ENGINE_NAME", said.name
    yield "ENGINE_MODEL", said.model if said.version is not None else ""
    yield "ENGINE_MODEL_VERSION", "" if said.version is None else str(said.version)
    yield "ENGINE_MODEL_DIGEST", f"sha256:{said.model_digest}" if said.model_digest else ""
    for metric in said.metrics:
        if metric.value is not None:
            yield f"ENGINE_METRIC_{key(metric.name)}", f"{metric.value:.9g}"


def key(name: str) -> str:
    """A metric's name as a part of a variable's."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def quoted(value: str) -> str:
    """``value`` as a shell and every reader of such files takes it, on one line; an apostrophe becomes a curly one."""
    if PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("'", "\u2019") + "'"
