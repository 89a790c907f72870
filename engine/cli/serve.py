"""``engine serve``."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli import view
from engine.errors import YES, Failed, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

    from engine.registry.model import ModelRef
    from engine.serve.access import Gate
    from engine.serve.server import Certificate
    from engine.wiring import Home


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("serve", help=summary)(command)


def command(
    models: list[str] = typer.Argument(None, metavar="MODEL[@ALIAS|:VERSION]...", help="What to serve."),
    host: str = typer.Option("127.0.0.1", "--host", metavar="HOST", help="The address to listen on."),
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="The port; 0 takes any that is free."),
    grpc_port: int = typer.Option(None, "--grpc-port", min=0, max=65535, help="Also answer gRPC, on this port."),
    workers: int = typer.Option(None, "--workers", min=1, max=64, help="Processes; by default what the spec says."),
    tls_cert: Path = typer.Option(None, "--tls-cert", metavar="FILE", help="A certificate chain (PEM), for HTTPS."),
    tls_key: Path = typer.Option(None, "--tls-key", metavar="FILE", help="Its private key (PEM)."),
    max_body: float = typer.Option(64.0, "--max-body", min=0.001, help="The largest request, in MB."),
    rate: float = typer.Option(
        0.0, "--rate", min=0.0, help="Requests a second for each address (and worker); 0: none."
    ),
    device: str = typer.Option("cpu", "--device", metavar="cpu|cuda", help="What computes."),
    cors: str = typer.Option("", "--cors", metavar="ORIGIN", help="Let pages of this origin ask from a browser."),
    insecure: bool = typer.Option(False, "--insecure", help="Listen beyond this machine without keys."),
    access_log: bool = typer.Option(False, "--access-log", help="A JSON line on standard error for each request."),
    add_key: str = typer.Option(None, "--add-key", metavar="NAME", help="Make an API key, show it once, and leave."),
    scope: list[str] = typer.Option(["infer"], "--scope", help="What the new key opens: infer, feedback, admin."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document when it listens."),
) -> int:
    """Answer predictions with the Open Inference Protocol, until Ctrl-C."""
    from engine.wiring import home_here

    home = home_here()
    if add_key is not None:
        return make_key(home, add_key, scope, as_json=as_json)
    from engine.serve.server import Limits, Place, run
    from engine.serve.stats import counting
    from engine.serve.workers import post, supervise
    from engine.wiring import serving

    refs = chosen(home, models or [])
    gate = gate_of(home, host, rate, insecure=insecure)
    certificate = pair_of(tls_cert, tls_key)
    mine = post()
    count = mine.workers if mine else workers or most_workers(home, refs)
    listening = [mine.listening] if mine else sockets_at(host, port, count)
    held = None if mine or grpc_port is None else held_at(host, grpc_port)
    remote = held.getsockname()[1] if held is not None else mine.grpc_port if mine else None
    address = f"{'https' if certificate else 'http'}://{shown(host)}:{listening[0].getsockname()[1]}"

    def told() -> None:
        tell(address, f"{shown(host)}:{remote}" if remote is not None else "", refs, as_json=as_json)

    source = serving(home, device)
    limits = Limits(largest_body=int(max_body * 1e6), workers=count, access_log=access_log)
    place = Place(
        host=host,
        listening=listening[0],
        certificate=certificate,
        grpc_port=remote,
        origin=origin_of(cors),
        limits=limits,
    )
    if mine is not None:
        run(refs, source, gate, place, mine.cells, mine.report)
        return YES
    with counting(home.path / "serve" / "cells") as cells:
        if count == 1:
            return ended(run(refs, source, gate, place, cells, told))
        again = [sys.executable, "-m", "engine.cli.main", *sys.argv[1:]]
        return ended(supervise(again, listening, remote, cells, told))


def origin_of(text: str) -> str:
    """An origin as a browser sends it, or nothing.

    Raises:
        UsageError: when it is none.
    """
    if text and re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", text) is None:
        raise UsageError(f'"{text}" is no origin', hint="write https://HOST or https://HOST:PORT, without a path")
    return text


def ended(number: int) -> int:
    """The exit code of a server: 0 when a service manager ended it, by SIGTERM; Ctrl-C interrupts it as any command.

    Raises:
        KeyboardInterrupt: then.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number < 0:
        return -number
    view.note("stopped")
    return YES


def chosen(home: Home, models: Sequence[str]) -> list[ModelRef]:
    """The models to serve; a bare name is its production version where it has one.

    Raises:
        UsageError: when there is none, or one is named twice.
        ModelNotFound: when one is not registered.
    """
    from engine.registry.model import ModelRef

    if not models:
        known = home.registry.models()
        hint = f"as in `engine serve {known[0]}`" if known else "a run whose gates pass registers one"
        raise UsageError("name a model to serve", hint=hint)
    found: dict[str, ModelRef] = {}
    for text in models:
        ref = ModelRef.parse(text)
        home.registry.get(ref)
        if ref.alias is None and ref.version is None and "production" in home.registry.aliases(ref.name):
            ref = ModelRef(name=ref.name, alias="production")
        if ref.name in found:
            hint = "one of its versions or aliases answers by default; the others are asked for by name"
            raise UsageError(f"{ref.name} is named twice", hint=hint)
        found[ref.name] = ref
    return list(found.values())


def gate_of(home: Home, host: str, rate: float, *, insecure: bool) -> Gate:
    """Who may come in. Beyond this machine nobody may without a key, unless that is asked for.

    Raises:
        UsageError: when no key could open anything.
    """
    from engine.serve.access import SCOPES, Gate, read_keys
    from engine.serve.server import is_loopback

    keys = read_keys(home.path / "serve" / "keys")
    if insecure:
        return Gate(keys=keys, open_scopes=frozenset(SCOPES), rate=rate)
    if is_loopback(host):
        return Gate(keys=keys, rate=rate)
    if not any("infer" in key.scopes for key in keys):
        hint = "make a key with `engine serve --add-key NAME`, or say --insecure"
        raise UsageError("beyond this machine a key is needed, and there is none", place=f"--host {host}", hint=hint)
    return Gate(keys=keys, open_scopes=frozenset(), rate=rate)


def pair_of(certificate: Path | None, key: Path | None) -> Certificate | None:
    """The certificate and its key, when they are given.

    Raises:
        UsageError: when one is given without the other, or they do not fit.
    """
    from engine.serve.server import Certificate

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("a certificate and its key belong together", hint="give both --tls-cert and --tls-key")
    for path in (certificate, key):
        if not path.is_file():
            raise NotFound("file", str(path), hint="name a PEM file")
    return Certificate(chain=certificate, key=key)


def most_workers(home: Home, refs: Sequence[ModelRef]) -> int:
    """How many processes the specs of the models ask for, at most."""
    from engine.wiring import serving

    source = serving(home)
    return max(source.settings_of(home.registry.get(ref)).workers for ref in refs)


def sockets_at(host: str, port: int, count: int) -> list[socket]:
    """The sockets of the workers.

    Raises:
        Failed: when the port is taken.
    """
    from engine.serve.workers import sockets

    try:
        return sockets(host, port, count)
    except OSError as error:
        hint = "choose another with --port, or 0 for any that is free"
        raise Failed(f"cannot listen: {error.strerror or error}", place=f"{host}:{port}", hint=hint) from error


def held_at(host: str, port: int) -> socket:
    """The port of gRPC, held for all workers.

    Raises:
        Failed: when the port is taken.
    """
    from engine.serve.workers import reserve

    try:
        return reserve(host, port)
    except OSError as error:
        hint = "choose another with --grpc-port, or 0 for any that is free"
        raise Failed(f"cannot listen: {error.strerror or error}", place=f"{host}:{port}", hint=hint) from error


def make_key(home: Home, name: str, scopes: Sequence[str], *, as_json: bool) -> int:
    """Make a key and show it.

    Raises:
        UsageError: for a name or scope that is none.
    """
    from engine.errors import suggestion
    from engine.serve.access import SCOPES, new_key

    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f'"{name}" is no name of a key', hint="use letters, digits, - and _")
    for one in scopes:
        if one not in SCOPES:
            raise UsageError(f'no scope "{one}"', hint=suggestion(one, SCOPES))
    secret = new_key(home.path / "serve" / "keys", name, frozenset(scopes))
    if as_json:
        view.document({"name": name, "scopes": sorted(scopes), "key": secret})
    else:
        view.line(f"a key that opens {', '.join(sorted(scopes))}, which is not shown again:")
        view.line(f"  {secret}")
        view.line("send it as `Authorization: Bearer KEY`; servers know it from their next start on")
    return 0


def tell(address: str, remote: str, refs: Sequence[ModelRef], *, as_json: bool) -> None:
    """Say where the server listens and what it serves."""
    if as_json:
        more = {"grpc": remote} if remote else {}
        view.document({"endpoint": address, **more, "models": [str(ref) for ref in refs]})
    else:
        view.line(f"serving {', '.join(map(str, refs))} on {address}" + (f" and {remote} (gRPC)" if remote else ""))
        view.line(
            f"  {address}/v2/models/{refs[0].name}/infer takes predictions; {address}/openapi.json has an example"
        )
    sys.stdout.flush()


def shown(host: str) -> str:
    """A host as a URL has it."""
    return f"[{host}]" if ":" in host else host
