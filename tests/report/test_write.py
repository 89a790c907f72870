"""A report is written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.digest import plain
from engine.errors import Failed, StorageFull, StorageUnwritable, UsageError
from engine.report import write as writer
from engine.report.model import Report
from engine.report.write import FORMATS, check, parse_target, write
from projects import read_only
from report import samples

KNOWN = "html, json, md, junit, sarif, openmetrics, dotenv, issue"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("html=out/r.html", ("html", Path("out/r.html"))),
        ("md=a=b.md", ("md", Path("a=b.md"))),
        ("json=r", ("json", Path("r"))),
    ],
)
def test_a_target_is_a_format_and_a_path(text: str, parsed: tuple[str, Path]) -> None:
    assert parse_target(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out.html", f"--report: 'out.html' is not FORMAT=PATH; write html=report.html; known formats: {KNOWN}"),
        ("html=", f"--report: 'html=' is not FORMAT=PATH; write html=report.html; known formats: {KNOWN}"),
        ("htm=x", f"--report: no report format 'htm'; did you mean \"html\"? known formats: {KNOWN}"),
        ("pdf=x", f"--report: no report format 'pdf'; known formats: {KNOWN}"),
    ],
)
def test_a_wrong_target_is_told_the_formats_there_are(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sample", [samples.passed, samples.failed, samples.bare, samples.hostile])
def test_every_format_is_written_and_its_folders_are_made(tmp_path: Path, name: str, sample: object) -> None:
    assert callable(sample)
    report = sample()
    path = write(report, f"{name}={tmp_path}/new/folder/r.{name}")
    assert path.read_text(encoding="utf-8") == FORMATS[name](report)
    assert [entry.name for entry in path.parent.iterdir()] == [f"r.{name}"]


def test_json_is_the_document_of_the_run(tmp_path: Path) -> None:
    path = write(samples.passed(), f"json={tmp_path}/r.json")
    assert json.loads(path.read_text()) == plain(samples.passed().run)


def test_json_has_no_number_that_json_cannot_name(tmp_path: Path) -> None:
    odd = Report(run={"metrics": {"a": float("nan"), "b": [float("inf"), 1.5]}})
    path = write(odd, f"json={tmp_path}/r.json")
    assert json.loads(path.read_text()) == {"metrics": {"a": None, "b": [None, 1.5]}}


def test_a_report_that_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.md"
    path.write_text("old")
    write(samples.bare(), f"md={path}")
    assert "FAILED" in path.read_text()


def test_a_folder_is_no_place_for_a_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder; name a file in it: html=.*report\.html"):
        write(samples.bare(), f"html={tmp_path}")


def test_a_parent_that_is_a_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="file"):
        write(samples.bare(), f"md={tmp_path}/file/r.md")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_report_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.md"
    path.write_text("old")
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(writer.os, "fsync", lambda _: full.write(b"x"))
        with pytest.raises(StorageFull):
            write(samples.bare(), f"md={path}")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.md"]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes no writes, even from root."""
    (tmp_path / "open").mkdir(mode=0o500)
    if os.geteuid():
        yield tmp_path / "open"
    else:
        with read_only(tmp_path / "open", tmp_path / "closed") as folder:
            yield folder


@pytest.mark.parametrize(("path", "place"), [("r.md", "r.md"), ("new/r.md", "new")])
def test_what_cannot_be_written_is_named_and_not_a_temporary_file(closed: Path, path: str, place: str) -> None:
    with pytest.raises(StorageUnwritable) as raised:
        write(samples.bare(), f"md={closed / path}")
    assert raised.value.place == str(closed / place)


@pytest.mark.parametrize("path", ["r.md", "new/r.md", "new/folder/r.md"])
def test_what_cannot_be_written_is_said_before_anything_runs(closed: Path, path: str) -> None:
    with pytest.raises(StorageUnwritable) as raised:
        check([("md", closed / path)])
    assert raised.value.place == str(closed)


def test_a_check_refuses_a_parent_that_is_a_file_a_folder_and_one_path_for_two_reports(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="is no folder"):
        check([("md", tmp_path / "file" / "r.md")])
    with pytest.raises(UsageError, match="is a folder"):
        check([("md", tmp_path)])
    with pytest.raises(UsageError, match="md and html are to be written to one file"):
        check([("md", tmp_path / "r"), ("html", tmp_path / "new" / ".." / "r")])


def test_a_check_creates_nothing(tmp_path: Path) -> None:
    check([("md", tmp_path / "new" / "r.md"), ("html", tmp_path / "new" / "r.html")])
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        check([("md", pipe)])
        write(samples.bare(), f"md={pipe}")
        assert reader.stdout is not None
        assert b"FAILED" in reader.stdout.read()
    assert pipe.is_fifo()


def test_importing_the_writers_loads_neither_rich_nor_jinja() -> None:
    code = "import sys, engine.report.write, engine.report.text; print(sorted({'rich', 'jinja2'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
