"""What the Tab key offers: commands, options, and for an argument what its name in the usage says it is.

The shell asks by calling ``engine`` with a variable set; typer speaks the shells' protocols. An answer never fails and
never writes anything but offers: where something cannot be read, less is offered.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.models import ParameterInfo

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.wiring import Home

Offer = Callable[[str], Iterable[str]]

MOST = 1000
SHORT = 12
LAKE = "lakefs://"
TITLE = re.compile(r"[A-Z][A-Z|=]*")
# Bash takes each of these for a word of its own, and then replaces only what stands behind the last one.
BREAKS = (":", "@", "=")
# What reading a home, a folder or a plugin's source may raise.
UNREADABLE = (EngineError, OSError, ValueError, KeyError, TypeError, sqlite3.Error)


def offer_specs(begun: str) -> Iterator[str]:
    """Specs beside where the user is, in ``specs/``, and in the folder that is begun."""
    for folder in dict.fromkeys(["", "specs/", begun[: begun.rfind("/") + 1]]):
        for path in sorted(Path(folder).glob("*.y*ml")):
            if not path.name.startswith("."):
                yield f"{folder}{path.name}"


def offer_runs(begun: str) -> Iterator[str]:
    """The first digits of every run's id; the whole id where more is begun."""
    for run in home().records.run_ids():
        yield run if len(begun) > SHORT else run[:SHORT]


def offer_models(_: str) -> Iterator[str]:
    """Registered models."""
    yield from home().registry.models()


def offer_versions(begun: str) -> Iterator[str]:
    """Registered models; with one begun, also its versions and aliases."""
    registry = home().registry
    for model in registry.models():
        yield model
        if begun.startswith(model):
            yield from (f"{model}@{alias}" for alias in registry.aliases(model))
            yield from (f"{model}:{version.version}" for version in registry.versions(model))


def offer_runs_and_models(begun: str) -> Iterator[str]:
    """Whatever names a run."""
    yield from offer_versions(begun)
    yield from offer_runs(begun)


def offer_plugins(_: str) -> Iterator[str]:
    """What `uses:` can name."""
    from engine.plugins import installed

    yield from (reference.name for reference in installed())


def offer_overrides(_: str) -> Iterator[str]:
    """The trainers, and the sections of a spec."""
    from engine.plugins import names

    yield from (f"train.uses={name}" for name in names("trainer"))
    yield from ("seed=", "train.with.", "evaluate.gates.")


def offer_reports(_: str) -> Iterator[str]:
    """The formats of a run's reports, and the services that take issues."""
    from engine.report.write import FORMATS, ISSUE

    yield from (f"{name}=" for name in FORMATS)
    yield from (f"{ISSUE}=gh", f"{ISSUE}=gitlab")


def offer_problem_files(_: str) -> Iterator[str]:
    """The formats in which the problems of specs can be written to a file."""
    from engine.report.problems.model import FORMATS

    yield from (f"{name}=" for name in FORMATS)


def offer_rules(_: str) -> Iterator[str]:
    """The rules by which specs are judged."""
    from engine.spec.rules import RULES

    yield from (rule.id for rule in RULES)


def offer_statuses(_: str) -> Iterator[str]:
    """How a run can end."""
    yield from ("passed", "refused", "failed")


def offer_aliases(_: str) -> Iterator[str]:
    """The aliases that Engine knows, and those that somebody made."""
    from engine.spec.vocabulary import ALIASES

    registry = home().registry
    yield from dict.fromkeys([*ALIASES, *(alias for model in registry.models() for alias in registry.aliases(model))])


def offer_formats(_: str) -> Iterator[str]:
    """In which forms the problems of specs are printed."""
    from engine.report.problems.model import FORMATS

    yield from FORMATS


def offer_places(begun: str) -> Iterator[str]:
    """What lies in the lake: repositories, then branches and tags, then one folder after the other."""
    lake = home().lake
    repository, slash, rest = begun.removeprefix(LAKE).partition("/")
    if not begun.startswith(LAKE) or not slash:
        yield from (f"{LAKE}{one.name}/" for one in lake.repositories())
        return
    ref, slash, path = rest.partition("/")
    if not slash:
        yield from (f"{LAKE}{repository}/{name}/" for name in (*lake.branches(repository), *lake.tags(repository)))
        return
    folder = path[: path.rfind("/") + 1]
    for entry in lake.list(repository, ref, folder, delimiter="/"):
        yield f"{LAKE}{repository}/{ref}/{entry.path}"


OFFERS: Mapping[str, Offer] = {
    "SPEC": offer_specs,
    "OVERRIDE": offer_overrides,
    "RUN": offer_runs_and_models,
    "RUN|MODEL": offer_runs_and_models,
    "MODEL": offer_models,
    "ID": offer_runs_and_models,
    "NAME": offer_plugins,
    "--report": offer_reports,
    "FORMAT=PATH": offer_problem_files,
    "RULE": offer_rules,
    "STATUS": offer_statuses,
    "FORMAT": offer_formats,
    "ALIAS": offer_aliases,
    "URI": offer_places,
    "--status": offer_statuses,
}
"""What completes an option, by itself, or an argument, by the first name that it has in the usage."""


def home() -> Home:
    """The state of the project that the user is in."""
    from engine.wiring import home_here

    return home_here()


def safely(offer: Offer) -> Offer:
    """``offer``, with nothing in place of what cannot be read."""

    def offered(incomplete: str) -> list[str]:
        found: list[str] = []
        with contextlib.suppress(*UNREADABLE):
            for one in islice((one for one in offer(incomplete) if one.startswith(incomplete)), MOST):
                found.append(one)
        return found

    return offered


def attach(app: typer.Typer) -> None:
    """Tell every argument of the loaded commands what completes it."""
    for command in app.registered_commands:
        for parameter in inspect.signature(command.callback or attach).parameters.values():
            info = parameter.default
            if isinstance(info, ParameterInfo) and info.autocompletion is None:
                titles = [*(info.param_decls or ()), *TITLE.findall(info.metavar or "")[:1]]
                offer = next((OFFERS[title] for title in titles if title in OFFERS), None)
                info.autocompletion = safely(offer) if offer else None
    for group in app.registered_groups:
        if group.typer_instance:
            attach(group.typer_instance)


# -- the shells ------------------------------------------------------------------------------------------


def answer(application: Callable[[str | None], typer.Typer]) -> int:
    """Answer the shell that asks in the environment; the exit code that it wants."""
    cut = join_words(os.environ)
    app = application(chosen(os.environ))
    attach(app)
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        try:
            typer.main.get_command(app).main([], prog_name="engine", standalone_mode=False)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 0
        except (KeyError, ValueError, RuntimeError):  # a variable that no shell of ours sets like that
            status = 1
    for line in said.getvalue().splitlines():
        sys.stdout.write(line.removeprefix(cut) + "\n")
    return status


def chosen(environment: Mapping[str, str]) -> str | None:
    """The command in the line that is being typed."""
    typed = environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS") or ""
    return next((word for word in typed.split()[1:] if not word.startswith("-")), None)


def join_words(environment: MutableMapping[str, str]) -> str:
    """Put the words together that bash took apart (``demo @ prod``); what it will not replace of the last of them."""
    words = environment.get("COMP_WORDS", "")
    if (
        environment.get("_ENGINE_COMPLETE") != "complete_bash"
        or not words
        or not environment.get("COMP_CWORD", "").isdigit()
    ):
        return ""
    parts = re.split(r"[ \n]", words)[: int(environment["COMP_CWORD"]) + 1]
    joined: list[str] = []
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        if joined and (part.startswith(BREAKS) or before.endswith(BREAKS)):
            joined[-1] += part
        else:
            joined.append(part)
    environment["COMP_WORDS"] = " ".join(joined)
    environment["COMP_CWORD"] = str(len(joined) - 1)
    return joined[-1][: max(joined[-1].rfind(mark) for mark in BREAKS) + 1]
