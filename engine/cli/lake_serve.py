"""``engine lake serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli import view
from engine.errors import Failed, NotFound

if TYPE_CHECKING:
    from engine.lake.rest.state import Key

SUMMARY = "Serve the embedded lake behind lakeFS' API, to its clients."


def register(app: typer.Typer) -> None:
    """Add the command to those of the lake."""
    app.command("serve", help=SUMMARY)(command)


def command(
    host: str = typer.Option("127.0.0.1", "--host", metavar="HOST", help="The address to listen on."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="The port; 0 takes any that is free."),
    import_root: list[Path] = typer.Option([], "--import-root", metavar="DIR", help="Let clients import from below."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document when it listens."),
) -> int:
    """Serve the project's embedded lake until Ctrl-C. The access key is made at the first start and shown only then."""
    from engine.lake.rest.server import LOOPBACK, application, listen, run
    from engine.lake.rest.state import Keys, State
    from engine.spec.project import home_path, project_root
    from engine.wiring import embedded_lake, hooks_of

    for folder in import_root:
        if not folder.is_dir():
            raise NotFound("folder", str(folder), hint="name a folder that is there with --import-root")
    root = project_root(Path.cwd() / "spec")
    path = home_path(root)
    keys = Keys(path / "lake" / "keys.json")
    try:
        listening = listen(host, port)
    except OSError as error:
        place, hint = f"{host}:{port}", "choose another with --port, or 0 for any that is free"
        raise Failed(f"cannot listen: {error.strerror or error}", place=place, hint=hint) from error
    made = keys.first()
    hooks = hooks_of(path, root, background=True)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    state = State(keys=keys, hooks=hooks, roots=tuple(import_root))
    tell(address, made, keys.path, as_json=as_json)
    try:
        run(application(embedded_lake(path, hooks), state, (*LOOPBACK, host, f"[{host}]")), listening)
    finally:
        hooks.close()
    raise KeyboardInterrupt


def tell(address: str, made: Key | None, kept: Path, *, as_json: bool) -> None:
    """Say where the server listens, and the key, if it is new."""
    import sys

    if as_json:
        id, secret = (made.id, made.secret) if made else (None, None)
        view.document({"endpoint": address, "access_key_id": id, "secret_access_key": secret})
    else:
        view.line(f"serving the lake on {address}")
        if made is None:
            view.line(f"its key was shown at the first start; is it lost? remove {kept} and start again")
        else:
            view.line("a key for it, which is not shown again:")
            view.line(f"  export LAKECTL_SERVER_ENDPOINT_URL={address}")
            view.line(f"  export LAKECTL_CREDENTIALS_ACCESS_KEY_ID={made.id}")
            view.line(f"  export LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY={made.secret}")
    sys.stdout.flush()
