"""A server process: its sockets, its event loop, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from engine.registry.model import ModelRef
from engine.serve.access import Gate
from engine.serve.dataplane import DataPlane, Source
from engine.serve.http import LOOPBACK, Connection, Site, sweep
from engine.serve.pages import answer
from engine.serve.stats import own_cells

DRAIN_SECONDS = 10.0
BACKLOG = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a server listens and what it needs for that."""

    host: str
    listening: socket.socket
    certificate: Path | None = None
    private_key: Path | None = None
    largest_body: int = 64 << 20


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens; port 0 takes any that is free. ``shared`` lets other processes listen there too.

    Raises:
        OSError: when the port is taken.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    listening.listen(BACKLOG)
    return listening


def threads_for(workers: int) -> int:
    """How many threads a call may use: two where there are cores for it, for batches gain by it."""
    return max(1, min(2, len(os.sched_getaffinity(0)) // workers))


async def serve(
    refs: Sequence[ModelRef],
    source: Source,
    gate: Gate,
    place: Place,
    folder: Path,
    threads: int,
    told: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT; ``told`` is called when everything is ready.

    Raises:
        EngineError: when a model cannot be loaded.
    """
    loop = asyncio.get_running_loop()
    cells = own_cells(folder)
    plane = DataPlane(refs, source, cells, threads)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await loop.run_in_executor(None, plane.start, loop)
        hosts = LOOPBACK | {place.host} | ({"*"} if place.host in ("0.0.0.0", "::") else set())  # noqa: S104
        site = Site(plane=plane, gate=gate, cells=cells, pages=answer, hosts=hosts, largest_body=place.largest_body)
        server = await loop.create_server(
            lambda: Connection(site, loop), sock=place.listening, backlog=BACKLOG, ssl=context_of(place)
        )
        sweeping = loop.create_task(sweep(site))
        told()
        await ended.wait()
        server.close()
        await plane.drain(DRAIN_SECONDS)
        await asyncio.sleep(0.05)  # what was answered is on its way
        sweeping.cancel()
        for connection in list(site.connections):
            connection.end()
        await asyncio.sleep(0)
    finally:
        await loop.run_in_executor(None, plane.close)


def context_of(place: Place) -> ssl.SSLContext | None:
    """The TLS context, when there is a certificate."""
    if place.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(place.certificate, place.private_key)
    return context


def run(
    refs: Sequence[ModelRef],
    source: Source,
    gate: Gate,
    place: Place,
    folder: Path,
    threads: int,
    told: Callable[[], None],
) -> None:
    """:func:`serve` in an event loop of its own."""
    uvloop.run(serve(refs, source, gate, place, folder, threads, told))
