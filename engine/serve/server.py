"""A server process: its sockets, its event loop, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvloop

from engine.errors import UsageError
from engine.registry.model import ModelRef
from engine.serve.access import Gate
from engine.serve.attention import Attention, has_cores_for
from engine.serve.dataplane import DataPlane, Source
from engine.serve.http import LOOPBACK, AccessLog, Connection, Site, sweep
from engine.serve.pages import answer
from engine.serve.stats import Cells

DRAIN_SECONDS = 10.0
LAST_WORDS = 0.05
DRAIN_TICK = 0.02
BACKLOG = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What HTTPS needs: a certificate chain and its private key, both PEM."""

    chain: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """The TLS context.

        Raises:
            UsageError: when the two do not fit, or are no PEM.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.chain, self.key)
        except (ssl.SSLError, OSError) as error:
            raise UsageError(
                "no certificate with its key", place=f"{self.chain}, {self.key}", hint=str(error)
            ) from error
        return context


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The largest body in bytes, how many processes share the machine, whether each request is a line in the log."""

    largest_body: int = 64 << 20
    workers: int = 1
    access_log: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a server listens."""

    host: str
    listening: socket.socket
    certificate: Certificate | None = None
    grpc_port: int | None = None
    origin: str = ""
    limits: Limits = Limits()


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
    """How many threads a call may use: two where they leave as many cores to others, for batches gain by it."""
    return max(1, min(2, len(os.sched_getaffinity(0)) // (2 * workers)))


class WithoutPandas(MetaPathFinder):
    """Keeps pandas out of this process: pyarrow imports it at the first list that it makes an array of, if it can.

    That takes a second and 50 MB, and nothing here needs it.
    """

    def find_spec(self, fullname: str, *_: object) -> None:
        """Nothing for every other module.

        Raises:
            ModuleNotFoundError: for pandas.
        """
        if fullname == "pandas":
            raise ModuleNotFoundError("a server has no use for pandas", name=fullname)


def end(ended: asyncio.Future[int], number: int) -> None:
    """What a signal does: the first one counts."""
    if not ended.done():
        ended.set_result(number)


async def serve(
    refs: Sequence[ModelRef], source: Source, gate: Gate, place: Place, folder: Path, told: Callable[[], None]
) -> int:
    """Serve until SIGTERM or SIGINT; ``told`` is called when everything is ready. ``folder`` holds the counts.

    Returns:
        The number of the signal.

    Raises:
        EngineError: when a model cannot be loaded, or the certificate cannot be used.
        OSError: when the port of gRPC is taken.
    """
    loop = asyncio.get_running_loop()
    cells = Cells(folder / f"{os.getpid()}.cells")
    plane = DataPlane(refs, source, cells, threads_for(place.limits.workers))
    context = place.certificate.context() if place.certificate else None
    ended: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, ended, number)
    try:
        await loop.run_in_executor(None, plane.start, loop)
        site = Site(
            plane=plane,
            gate=gate,
            cells=cells,
            pages=answer,
            attention=Attention(loop, wanted=has_cores_for(place.limits.workers)),
            hosts=hosts_of(place.host),
            largest_body=place.limits.largest_body,
            log=AccessLog() if place.limits.access_log else None,
            origin=allowed(place.origin),
        )
        server = await loop.create_server(
            lambda: Connection(site, loop), sock=place.listening, backlog=BACKLOG, ssl=context
        )
        remote = await grpc_server(plane, gate, place)
        sweeping = loop.create_task(sweep(site))
        settle()
        told()
        asked = await ended
        server.close()
        leaving = loop.create_task(remote.stop(DRAIN_SECONDS)) if remote is not None else None
        await drain(site)
        if leaving is not None:
            await leaving
        await asyncio.sleep(LAST_WORDS)  # what was answered is on its way
        sweeping.cancel()
        for connection in list(site.connections):
            connection.end()
        await asyncio.sleep(0)
    finally:
        await loop.run_in_executor(None, plane.close)
    return asked


def settle() -> None:
    """Keep the collector of garbage from what stays, and have it look seldom: each look holds up an answer.

    With the first requests it went through a quarter of a million objects, for 50 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


async def drain(site: Site) -> None:
    """Answer what has begun to come, close what is silent, and wait until nothing is owed, for ten seconds at most."""
    end = time.monotonic() + DRAIN_SECONDS
    await site.plane.drain(0.0)
    while time.monotonic() < end:
        for connection in list(site.connections):
            connection.end_idle()
        await site.plane.drain(0.0)
        if not any(connection.is_busy for connection in list(site.connections)):
            break
        await asyncio.sleep(DRAIN_TICK)
    await site.plane.drain(max(0.0, end - time.monotonic()))


def allowed(origin: str) -> bytes:
    """The header that lets pages of an origin read answers; nothing without one."""
    return f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode() if origin else b""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hosts_of(host: str) -> frozenset[str] | None:
    """The names by which this server goes; any beyond this machine, where keys tell who asks and not a page's name."""
    return LOOPBACK | {host.lower()} if is_loopback(host) else None


async def grpc_server(plane: DataPlane, gate: Gate, place: Place) -> Any:
    """The server of gRPC, where one is wanted.

    Raises:
        OSError: when its port is taken.
    """
    if place.grpc_port is None:
        return None
    from engine.serve.grpc import start

    host = f"[{place.host}]" if ":" in place.host else place.host
    address = f"{host}:{place.grpc_port}"
    pair = (place.certificate.key.read_bytes(), place.certificate.chain.read_bytes()) if place.certificate else None
    server, _ = await start(plane, gate, address, place.limits.largest_body, pair)
    return server


def run(
    refs: Sequence[ModelRef], source: Source, gate: Gate, place: Place, folder: Path, told: Callable[[], None]
) -> int:
    """:func:`serve` in an event loop of its own, in a process that does nothing else."""
    sys.meta_path.insert(0, WithoutPandas())
    return uvloop.run(serve(refs, source, gate, place, folder, told))
