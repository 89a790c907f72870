"""The command ``engine``: finds the subcommand, loads only its module, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import FrameType

import typer

from engine.cli import view
from engine.errors import INTERRUPTED, UNREAD, USAGE, EngineError, SpecInvalid, translate_os_error

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("init", "Start a project: a spec, a schema, a trainer, a test, CI for GitHub and GitLab."),
    "quickstart": ("quickstart", "Put the sample data, real New York flights, into the embedded lake."),
    "validate": ("validate", "Check specs: every problem at once, with its place."),
    "plan": ("plan", "Show what would run, what is cached, and why."),
    "run": ("run", "Carry out a spec and record it."),
    "watch": ("watch", "Run specs whenever a commit reaches a branch that they read."),
    "runs": ("runs", "The record of runs."),
    "diff": ("diff", "Show what differs between two runs: spec, data, code, environment, and what came of it."),
    "trace": ("trace", "From any id to all that it came from, and to all that came of it."),
    "verify": ("verify", "Hash everything that was recorded again: spec, data, artifacts, ledger."),
    "reproduce": ("reproduce", "Execute a recorded run again from nothing, and compare every artifact."),
    "cluster": ("cluster", "A warm local Ray cluster that later runs use."),
    "lake": ("lake", "Versioned data: repositories, branches, tags, objects and their history."),
    "models": ("models", "The registry of models."),
    "predict": ("predict", "Predict every row of a table, from the lake to the lake."),
    "serve": ("serve", "Answer predictions with the Open Inference Protocol."),
    "monitor": ("monitor", "Drift and live performance, tied to versions of code and data."),
    "schema": ("schema", "The JSON Schema of specs, for editors."),
    "plugins": ("plugins", "What `uses:` can name."),
    "doctor": ("doctor", "What is installed, reachable and writable, and what to do about what is not."),
}
# A shell that completes a line sets it, and calls `engine` without arguments.
COMPLETION = "_ENGINE_COMPLETE"
PACIFIED = "PacifyFlushWrapper"  # what typer puts before a standard output that nobody reads, when it leaves
JSON = {"--json", "--format=json", "--format=openlineage"}
# typer brings its own click; this is the class that all its complaints about a command line derive from.
USAGE_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)
ABOUT = "One YAML spec from versioned data to a judged, served and watched model."


def application(chosen: str | None) -> typer.Typer:
    """The command line with the module of the chosen command loaded; of the others only the names."""
    app = typer.Typer(help=ABOUT, no_args_is_help=True, rich_markup_mode=None)
    app.callback()(options)
    for name, (module, summary) in COMMANDS.items():
        if name == chosen:
            importlib.import_module(f"engine.cli.{module}").register(app, summary)
        else:
            app.command(name, help=summary)(nothing)
    return app


def print_version(wanted: bool) -> None:
    """What ``--version`` does, before a command is asked for."""
    if wanted:
        from engine import __version__

        view.line(f"engine {__version__}")
        raise typer.Exit


def options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", is_eager=True, callback=print_version
    ),
) -> None:
    """One YAML spec from versioned data to a judged, served and watched model."""


def nothing() -> None:
    """A command that was not chosen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is what CONTRACT 2 says."""
    if os.environ.get(COMPLETION) and arguments is None:
        from engine.cli.completion import answer

        return answer(application)
    view.write_anything()
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, interrupt)
    chosen = next((word for word in given if not word.startswith("-")), None)
    try:
        done = typer.main.get_command(application(chosen)).main(given, prog_name="engine", standalone_mode=False)
        if done == INTERRUPTED:  # how typer answers Ctrl-C
            return interrupted(given)
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except USAGE_ERRORS as error:
        return refuse_usage(error, given)
    except EngineError as error:
        return complain(error, given)
    except (KeyboardInterrupt, typer.Abort):
        return interrupted(given)
    except BrokenPipeError:
        return unread()
    except SystemExit:
        if type(sys.stdout).__name__ == PACIFIED:
            return unread()
        raise
    except OSError as error:
        return complain(translate_os_error(error, error.filename or ""), given)


def unread() -> int:
    """Whoever read the answer left before its end, as ``head`` does; nothing more is said to them."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (it is open as long as the process lives)
    return UNREAD


def interrupt(_: int, __: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def interrupted(given: Sequence[str]) -> int:
    """The command was stopped by Ctrl-C or SIGTERM."""
    message = "interrupted; finished steps stay cached" if {"run", "watch"} & set(given) else "interrupted"
    return complain_code("interrupted", message, given, INTERRUPTED)


def refuse_usage(error: BaseException, given: Sequence[str]) -> int:
    """A command line that does not parse."""
    message = getattr(error, "format_message", lambda: str(error))()
    if type(error).__name__ == "NoArgsIsHelpError" and not wants_json(given):
        view.note(message)
        return USAGE
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "engine")
    return complain_code("usage", message, given, USAGE, hint=f"see `{command} --help`")


def wants_json(given: Sequence[str]) -> bool:
    """Whether the answer, be it an error, is to be one JSON document."""
    return bool(JSON & set(given)) or bool({("--format", "json"), ("--format", "openlineage")} & set(pairwise(given)))


def complain(error: EngineError, given: Sequence[str]) -> int:
    """Print an error the way that was asked for; its exit code."""
    if wants_json(given):
        view.document({"error": error.document()})
    elif isinstance(error, SpecInvalid):
        view.problems(error.problems)
    else:
        view.error(error)
    return error.exit_code


def complain_code(code: str, message: str, given: Sequence[str], exit_code: int, hint: str = "") -> int:
    """As :func:`complain`, for what is no :class:`EngineError`."""
    if wants_json(given):
        document = {"code": code, "message": message, "place": "", "hint": hint}
        view.document({"error": document})
    else:
        view.complaint(message, hint)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
