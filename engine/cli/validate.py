"""``engine validate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from engine.cli import view
from engine.errors import NO, USAGE, YES, NotFound, Place, Problem, SpecInvalid, UsageError, suggestion
from engine.report.problems.model import ABSENT, FORMATS, Checked
from engine.report.problems.text import text
from engine.spec.find import STANDARD_INPUT, specs_at
from engine.spec.grounds import keep_warnings, root_of, shelf_of, warnings_before

if TYPE_CHECKING:
    from engine.spec.load import LoadedSpec

OVERRIDES = "engine.overrides"
SEPARATOR = "--"
IN_REVIEWS = ("github", "gitlab", "sarif")
"""Forms that a service lays over the files of a repository, and so names them from its top."""


class TakesOverrides(TyperCommand):
    """A command whose words after ``--`` are overrides."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put what stands after ``--`` aside, and read the rest."""
        at = args.index(SEPARATOR) if SEPARATOR in args else len(args)
        ctx.meta[OVERRIDES] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("validate", help=summary, cls=TakesOverrides)(command)


def command(
    ctx: typer.Context,
    specs: list[str] = typer.Argument(
        None,
        metavar="SPEC... [-- OVERRIDE...]",
        help="Specs, folders, patterns, or - for standard input; after --, key=value in Hydra's grammar.",
        show_default=False,
    ),
    form: str = typer.Option("text", "--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}."),
    outputs: list[str] = typer.Option(
        None, "--output", metavar="FORMAT=PATH", help="Also write this file; may be repeated."
    ),
    online: bool = typer.Option(False, "--online", help="Also look whether the data and its columns are in the lake."),
    json: bool = typer.Option(False, "--json", help="The same as --format json."),
    explain: str = typer.Option(None, "--explain", metavar="RULE", help="Say what a rule is for, with examples."),
) -> int:
    """Check specs without running anything: no code of the project is imported and nothing is started."""
    if explain:
        return show_rule(explain, json=json)
    if not specs:
        raise UsageError("no spec is named", hint="name specs, folders or patterns, or - for standard input")
    chosen = form_of("json" if json else form, "--format")
    targets = [target_of(given) for given in outputs or ()]
    refuse_early(targets)
    given = standard_input() if STANDARD_INPUT in specs else ""
    checked = list(check_all(specs, ctx.meta[OVERRIDES], given, online=online))
    if chosen == "text":
        sources = sources_of(checked, given) if view.is_terminal(sys.stdout) else {}
        sys.stdout.write(text(checked, sources, colour=view.coloured(sys.stdout)))
    else:
        sys.stdout.write(rendered(chosen, checked))
    write_all(targets, checked)
    return answer(checked)


def show_rule(name: str, *, json: bool) -> int:
    """What a rule is for."""
    from engine.report.problems.rules import document, explained

    if json:
        view.document(document(name))
    else:
        sys.stdout.write(explained(name))
    return YES


def answer(checked: Sequence[Checked]) -> int:
    """The exit code: 2 when a spec is not there, 1 when one has problems."""
    if any(problem.rule == ABSENT for one in checked for problem in one.problems):
        return USAGE
    return NO if any(one.errors for one in checked) else YES


def standard_input() -> str:
    """All that comes on standard input; what is not UTF-8 stays as it is, for the scan to refuse."""
    return sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")


# -- checking --------------------------------------------------------------------------------------------


def check_all(words: Sequence[str], overrides: Sequence[str], given: str, *, online: bool) -> Iterator[Checked]:
    """Every spec that is meant, once, with its problems."""
    seen: set[Path] = set()
    for word in words:
        try:
            found = specs_at(word, Path.cwd())
        except NotFound as error:
            yield absent(word, error)
            continue
        for spec in found:
            real = Path(spec).expanduser().resolve()
            if real not in seen:
                seen.add(real)
                yield check(spec, overrides, given if spec == STANDARD_INPUT else None, online=online)


def check(spec: str, overrides: Sequence[str], given: str | None, *, online: bool) -> Checked:
    """One spec with every problem, the harmless ones included; a good one is looked up in the lake if ``online``."""
    root = root_of(spec)
    shelf = shelf_of(root) if given is None and not online else None
    before = warnings_before(spec, overrides, shelf, root) if shelf else None
    if before is not None:
        return Checked(spec=spec, problems=before)
    from engine.spec.load import load

    try:
        loaded = load(spec, overrides, text=given, keeping=shelf_of)
    except SpecInvalid as error:
        return Checked(spec=spec, problems=error.problems)
    except NotFound as error:
        return absent(spec, error)
    if shelf and loaded.grounds:
        keep_warnings(spec, overrides, shelf, root, loaded.grounds, loaded.warnings)
    return Checked(spec=spec, problems=(*loaded.warnings, *(problems_online(loaded) if online else ())))


def problems_online(loaded: LoadedSpec) -> Sequence[Problem]:
    """What the project's lake says of a spec's data."""
    from engine.resolve.online import look_online
    from engine.wiring import open_home

    return look_online(loaded, open_home(loaded.root).lake)


def absent(spec: str, error: NotFound) -> Checked:
    """A spec that is not there."""
    return Checked(spec=spec, problems=(Problem(rule=ABSENT, fact=error.fact, hint=error.hint, place=Place()),))


# -- telling ---------------------------------------------------------------------------------------------


def rendered(form: str, checked: Sequence[Checked]) -> str:
    """The problems in one of the forms, which are loaded now: a person is answered without them."""
    from engine.cli.reporting import from_top, repository_of
    from engine.report.problems.formats import RENDERERS

    if form in IN_REVIEWS:
        top = repository_of(Path.cwd())
        checked = [from_top(one, top) for one in checked]
    return RENDERERS[form](checked)


def form_of(name: str, place: str) -> str:
    """A name that is a format's.

    Raises:
        UsageError: when it is none.
    """
    if name not in FORMATS:
        near = suggestion(name, FORMATS)
        also = f"{near} " if near.startswith("did") else ""
        raise UsageError(f"no format {name!r}", place=place, hint=f"{also}known formats: {', '.join(FORMATS)}")
    return name


def target_of(given: str) -> tuple[str, Path]:
    """``sarif=out/problems.sarif`` as format and path.

    Raises:
        UsageError: when it is not FORMAT=PATH, or there is no such format.
    """
    name, equals, path = given.partition("=")
    if not equals or not path:
        hint = f"write sarif=problems.sarif; known formats: {', '.join(FORMATS)}"
        raise UsageError(f"{given!r} is not FORMAT=PATH", place="--output", hint=hint)
    return form_of(name, "--output"), Path(path)


def refuse_early(targets: Sequence[tuple[str, Path]]) -> None:
    """See before anything is checked whether every file can be written."""
    if targets:
        from engine.report.write import check as can_be_written

        can_be_written(targets)


def write_all(targets: Sequence[tuple[str, Path]], checked: Sequence[Checked]) -> None:
    """Write every file that was asked for, each whole."""
    if targets:
        from engine.report.write import put

        for name, path in targets:
            put(path, rendered(name, checked).encode())


def sources_of(checked: Sequence[Checked], given: str) -> dict[str, str]:
    """The text of every file that has a problem."""
    files = {problem.place.file for one in checked for problem in one.problems if problem.place.line}
    found = {file: read(file) for file in files - {STANDARD_INPUT}}
    return {**found, STANDARD_INPUT: given}


def read(file: str) -> str:
    """A file's text, as far as it has some."""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""
