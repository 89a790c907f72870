"""``engine lake hook``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import typer

from engine.cli import view
from engine.errors import UsageError, suggestion
from engine.lake.hooks import FOLDER, VALIDATE
from engine.lake.refs import is_fixed, reads_head, split_ref
from engine.lake.uri import parse
from engine.report.clean import terminal

if TYPE_CHECKING:
    from engine.spec.load import LoadedSpec

SERVER = "http://127.0.0.1:8000"
EVENTS = ("pre-commit", "pre-merge")
SUMMARY = "Print an action file that keeps data which breaks a spec's schemas off its branches."


def register(app: typer.Typer) -> None:
    """Add the command to those of the lake."""
    app.command("hook", help=SUMMARY)(command)


def command(
    spec: str = typer.Argument(..., metavar="SPEC", help="The spec whose data is to be guarded."),
    url: str = typer.Option(SERVER, "--url", metavar="URL", help="Where `engine lake serve` answers."),
    repository: str = typer.Option("", "--repository", help="Which one, when the spec reads several."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Print an action file, for `_lakefs_actions/`. The embedded lake needs no server for it; lakeFS asks URL."""
    from engine.spec.load import load

    require_url(url)
    loaded = load(spec)
    found = branches_of(loaded)
    chosen = choose(found, repository, loaded.shown)
    path = f"{FOLDER}{loaded.spec.name}.yaml"
    text = action_text(loaded, chosen, found[chosen], url.rstrip("/"), path)
    if as_json:
        branches = list(found[chosen])
        view.document({"repository": chosen, "branches": branches, "path": path, "content": text})
    else:
        view.line(text.rstrip("\n"))
    return 0


def require_url(url: str) -> None:
    """Refuse what no hook may have as its address.

    Raises:
        UsageError: saying why.
    """
    from engine.lake.webhook import target_of

    try:
        target_of(url)
    except UsageError as error:
        error.place = f"--url {url}"
        raise


def branches_of(loaded: LoadedSpec) -> dict[str, tuple[str, ...]]:
    """The repositories and branches whose newest data a spec reads, tags and commits left out."""
    from engine.lake.actions import PATTERN
    from engine.wiring import open_home

    lake = open_home(loaded.root).lake
    found: dict[str, dict[str, None]] = {}
    for source in loaded.spec.data.values():
        uri = parse(source.uri)
        name, _ = split_ref(uri.ref)
        if reads_head(uri.ref, name) and PATTERN.fullmatch(name) and not is_fixed(lake, uri.repository, name):
            found.setdefault(uri.repository, {})[name] = None
    return {repository: tuple(names) for repository, names in found.items()}


def choose(found: Mapping[str, tuple[str, ...]], asked: str, spec: str) -> str:
    """The repository that the file is for.

    Raises:
        UsageError: when the spec reads no branch, none of that repository, or branches of several.
    """
    if not found:
        raise UsageError(
            "the spec reads no branch, so nothing can reach one", place=spec, hint="name a branch in a uri"
        )
    if asked and asked not in found:
        raise UsageError(f"the spec reads no branch of {asked}", place=spec, hint=suggestion(asked, found))
    if not asked and len(found) > 1:
        names = ", ".join(sorted(found))
        raise UsageError(f"the spec reads branches of {names}", place=spec, hint="choose one with --repository")
    return asked or next(iter(found))


def action_text(loaded: LoadedSpec, repository: str, branches: tuple[str, ...], url: str, path: str) -> str:
    """An action file as both lakeFS and the embedded lake understand it."""
    where = loaded.path.relative_to(loaded.root).as_posix() if loaded.path.is_relative_to(loaded.root) else ""
    if not where:
        raise UsageError("the spec lies outside its project", place=loaded.shown, hint="move it into the project")
    names = ", ".join(f'"{name}"' for name in branches)
    return "\n".join(
        [
            f"# Data that breaks the schemas of {terminal(where)} does not reach {', '.join(branches)}.",
            "# Save it in a file, then put it where the lake looks for actions, and commit:",
            f"#   engine lake put FILE lakefs://{repository}/{branches[0]}/{path} --commit -m 'Guard the data'",
            f"name: {loaded.spec.name} data",
            f"description: {json.dumps(f'ingest and validate what {where} reads')}",
            "on:",
            *(f"  {event}: {{branches: [{names}]}}" for event in EVENTS),
            "hooks:",
            "  - id: validate",
            "    type: webhook",
            "    description: answers 422 and says which rows break which check",
            "    properties:",
            f"      url: {json.dumps(f'{url}{VALIDATE}?spec={quote(where)}')}",
            "      timeout: 5m",
            "",
        ]
    )
