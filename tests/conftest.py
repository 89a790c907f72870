"""Every test has a home of its own, and one Ray cluster serves them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from projects import Done

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and its children too
UNSET = (
    "ENGINE_HOME", "CI", "NO_COLOR", "ALERT_URL", "LAKECTL_SERVER_ENDPOINT_URL", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITLAB_CI",
)  # fmt: skip
CLUSTER = """
import os, secrets, sys
from engine.execute.ray_executor import own_environment, reaped
token = secrets.token_hex(32)
os.environ.update(own_environment(token))
with reaped(token) as folder:
    import ray
    from engine.execute.ray_graph import start
    start(2, folder)
    print(token, ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in this process, as :func:`projects.engine` is in one of its own: it need not import anew."""

    def run(folder: Path, *arguments: str) -> Done:
        from engine.cli.main import main

        monkeypatch.chdir(folder)
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            code = main(list(arguments))
        finally:
            signal.signal(signal.SIGTERM, before)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray cluster of this test session; its token is in the environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    token, address = process.stdout.readline().split()
    before = dict(os.environ)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    yield address
    os.environ.clear()
    os.environ.update(before)
    process.communicate(timeout=30)
