"""``engine init``."""

from __future__ import annotations

from pathlib import Path

import typer

from engine.cli import view
from engine.report.clean import terminal
from engine.starter import Started, start


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("init", help=summary)(command)


def command(
    folder: Path = typer.Argument(Path(), metavar="[DIR]", help="Where; made when it is not there. Default: here."),
    name: str = typer.Option(None, "--name", help="What the model is called; by default as the folder."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Start a project that works: a spec, a schema, a trainer, a test, CI for GitHub and GitLab.

    A file that is there is never changed; init says which it kept.
    """
    done = start(folder, name)
    if json:
        view.document(
            {
                "name": done.name,
                "folder": str(done.folder),
                "written": list(done.written),
                "kept": [{"path": path, "same": same} for path, same in done.kept.items()],
            }
        )
    else:
        show(done)
    return 0


def show(done: Started) -> None:
    """What was written, what was kept, and what to type next."""
    for path in done.written:
        view.line(f"wrote  {terminal(str(done.folder / path))}")
    yours = [path for path, same in done.kept.items() if not same]
    for path in yours:
        view.line(f"kept   {terminal(str(done.folder / path))}, which is not what init writes")
    if not done.written and not yours:
        view.line(f"{done.name}: all {len(done.kept)} files are there already; nothing is written")
        return
    if len(done.kept) > len(yours):
        view.line(f"kept   {view.counted(len(done.kept) - len(yours), 'file')} that init wrote before")
    if yours and done.written:
        view.note("what is new may not go with what you had: compare with what init writes in an empty folder")
    if done.written:
        enter = "" if done.folder == Path() else f"cd {terminal(str(done.folder))} && "
        view.line(f"next: {enter}python sample_data.py && engine run specs/model.yaml")
