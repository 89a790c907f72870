"""What the Tab key offers, asked as the shells ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli.completion import join_words
from engine.cli.main import main
from projects import Project, engine, make_project

OURS = "import sys; from engine.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one passed run, whose model is in production."""
    made = make_project(tmp_path_factory.mktemp("done"))
    assert engine(made.root, "run", "spec.yaml", "--inline").code == 0
    (made.root / "specs").mkdir()
    (made.root / "specs" / "other.yaml").touch()
    return made


def asked(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``engine`` without arguments, as a shell calls it."""
    return subprocess.run(
        [sys.executable, "-c", OURS],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


Tab = Callable[[Path, str], list[str]]


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tab:
    """What bash is offered for the last word of a line; it hands ``:``, ``@`` and ``=`` over as words."""

    def offered(folder: Path, line: str) -> list[str]:
        words = line.replace(":", " : ").replace("@", " @ ").replace("=", " = ").replace("  ", " ")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("_ENGINE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        code = main()
        found = capsys.readouterr()
        assert (code, found.err) == (0, "")
        return found.out.split()

    return offered


OFFERED = {
    "engine pl": ["plan", "plugins"],
    "engine lake com": ["commit"],
    "engine run --inl": ["--inline"],
    "engine run ": ["spec.yaml", "specs/other.yaml"],
    "engine validate specs/": ["specs/other.yaml"],
    "engine validate spec.yaml o": [],
    "engine validate --explain key-": ["key-unknown", "key-missing"],
    "engine run spec.yaml train.u": ["train.uses=sklearn"],
    "engine run spec.yaml train.uses=sk": ["sklearn"],
    "engine run spec.yaml --report h": ["html="],
    "engine run spec.yaml --report issue=g": ["gh", "gitlab"],
    "engine validate spec.yaml --output g": ["github=", "gitlab="],
    "engine plugins show alibi.T": ["alibi.TabularDrift"],
    "engine plugins show nobody": [],
    "engine models list n": ["numbers"],
    "engine runs show n": ["numbers"],
    "engine runs show numbers": ["numbers", "numbers:1"],
    "engine runs show numbers:": ["1"],
    "engine runs list --status re": ["refused"],
    "engine trace num": ["numbers"],
    "engine validate --format s": ["sarif"],
    "engine models promote numbers:1 --to ca": ["candidate", "canary"],
    "engine lake ls lakefs://num": ["//numbers/"],
    "engine lake ls lakefs://numbers/m": ["//numbers/main/"],
}


@pytest.mark.parametrize(("line", "answer"), OFFERED.items(), ids=OFFERED)
def test_tab_offers(done: Project, line: str, answer: list[str], tab: Tab) -> None:
    assert [word for word in tab(done.root, line) if word not in ("schema.yaml", "specs/schema.yaml")] == answer


@pytest.mark.parametrize("command", ["runs show", "reproduce", "verify", "trace", "diff"])
def test_a_run_is_offered_by_its_first_digits_and_whole_when_more_is_typed(
    done: Project, command: str, tab: Tab
) -> None:
    (run,) = (path.name for path in (done.home / "runs").iterdir() if len(path.name) == 64)
    assert run[:12] in tab(done.root, f"engine {command} ")
    assert tab(done.root, f"engine {command} {run[:13]}") == [run]


SHELLS = {
    "zsh": ({"_TYPER_COMPLETE_ARGS": "engine plugins show ch"}, "_arguments '*: :((\"chi2\"))'"),
    "fish": ({"_TYPER_COMPLETE_ARGS": "engine plugins show ch", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "chi2"),
    "powershell": (
        {"_TYPER_COMPLETE_ARGS": "engine plugins show ch", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "ch"},
        "chi2::: ",
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_answered_in_its_own_words(tmp_path: Path, shell: str) -> None:
    variables, answer = SHELLS[shell]
    found = asked(tmp_path, _ENGINE_COMPLETE=f"complete_{shell}", **variables)
    assert (found.stdout, found.stderr) == (f"{answer}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_is_given_a_script(tmp_path: Path, shell: str) -> None:
    found = asked(tmp_path, _ENGINE_COMPLETE=f"source_{shell}")
    assert found.returncode == 0
    assert f"complete_{shell}" in found.stdout


def test_nothing_is_offered_of_what_cannot_be_read_and_nothing_is_written(tmp_path: Path, tab: Tab) -> None:
    (tmp_path / ".engine").mkdir()
    (tmp_path / ".engine" / "registry.db").write_bytes(b"this is no database" * 100)
    (tmp_path / ".engine" / "runs").touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for line in ("engine runs show ", "engine models list ", "engine trace a"):
        assert tab(tmp_path, line) == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "environment",
    [
        {"_ENGINE_COMPLETE": "bogus"},
        {"_ENGINE_COMPLETE": "complete_nobody"},
        {"_ENGINE_COMPLETE": "complete_bash"},
        {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": "engine run", "COMP_CWORD": "x"},
        {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": 'engine run "half', "COMP_CWORD": "2"},
        {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": "engine", "COMP_CWORD": "7"},
        {"_ENGINE_COMPLETE": ""},
    ],
)
def test_a_shell_that_asks_strangely_gets_no_traceback(tmp_path: Path, environment: dict[str, str]) -> None:
    assert asked(tmp_path, **environment).stderr.count("Traceback") == 0


def test_tab_imports_nothing_heavy(done: Project) -> None:
    code = (
        "import sys, os\nfrom engine.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=done.root,
        env={
            **os.environ,
            "_ENGINE_COMPLETE": "complete_bash",
            "COMP_WORDS": "engine runs show ",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in found.stderr.split()}
    assert loaded.isdisjoint({"ray", "sklearn", "onnxruntime", "pandas", "pandera", "scipy", "hydra", "pyarrow"})
    assert "engine.cli.run" not in found.stderr.split()


@pytest.mark.parametrize(
    ("words", "number", "joined", "cut"),
    [
        ("engine runs show demo @ prod", 5, "engine runs show demo@prod", "demo@"),
        ("engine runs show demo : ", 5, "engine runs show demo:", "demo:"),
        ("engine run a.yaml", 2, "engine run a.yaml", ""),
        ("engine run a.yaml ", 3, "engine run a.yaml ", ""),
        ("engine run a.yaml --report = ", 5, "engine run a.yaml --report=", "--report="),
    ],
)
def test_what_bash_took_apart_is_put_together(words: str, number: int, joined: str, cut: str) -> None:
    environment = {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    assert join_words(environment) == cut
    assert environment["COMP_WORDS"] == joined


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_a_line_with_the_script_that_it_is_given(done: Project, tmp_path: Path) -> None:
    command = tmp_path / "engine"
    command.write_text(f"#!{sys.executable}\n{OURS}\n")
    command.chmod(0o755)
    script = (
        'eval "$(_ENGINE_COMPLETE=source_bash engine)"\n'
        "COMP_WORDS=(engine runs show numbers : ''); COMP_CWORD=5\n_engine_completion engine\necho \"${COMPREPLY[@]}\""
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    found = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=done.root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1\n"
