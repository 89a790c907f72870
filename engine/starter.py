"""What ``engine init`` writes: a project that works, from the templates. Nothing that is there is ever changed."""

from __future__ import annotations

import importlib.machinery
import keyword
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import __version__
from engine.errors import UsageError, writing
from engine.spec.json_schema import FILE, schema_text
from engine.spec.known import known_metrics, known_plugins

TEMPLATES = Path(__file__).parent / "templates" / "project"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
REPOSITORY_LENGTH = 3  # the sample's repository has the project's name, and lakeFS wants so many letters of it
FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml.txt",
    "requirements.txt": "requirements.txt",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    "specs/model.yaml": "spec.yaml",
    "specs/schemas/hires.yaml": "hires.yaml",
    "src/@PACKAGE@/__init__.py": "package.py.txt",
    "src/@PACKAGE@/trainer.py": "trainer.py.txt",
    "tests/test_trainer.py": "test_trainer.py.txt",
    "sample_data.py": "sample_data.py.txt",
    ".github/workflows/engine.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
    ".pre-commit-config.yaml": "pre-commit.yaml",
}
"""Where each template goes. The schema for editors is not among them: it is made for the plugins that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A project: what was written of it now, and what was there and has been left alone.

    ``kept`` maps a file to whether it is, byte for byte, what would have been written.
    """

    folder: Path
    name: str
    written: tuple[str, ...]
    kept: Mapping[str, bool]


def start(folder: Path, name: str | None = None) -> Started:
    """Write a project into ``folder``, which is made when it is not there.

    Args:
        name: of the project and of its model; by default the folder's.

    Raises:
        UsageError: when the name cannot be one, or something in the way is not a folder.
        StorageFull, StorageUnwritable: when the disk says so; each file is there whole or not at all.
    """
    named = name_of(folder) if name is None else name
    require_name(named, given=name is not None)
    files = contents(named, folder)
    require_ways(folder, files)
    written = [path for path, text in files.items() if put_new(folder / path, text.encode())]
    kept = {path: same(folder / path, text) for path, text in files.items() if path not in written}
    return Started(folder=folder, name=named, written=tuple(written), kept=kept)


def name_of(folder: Path) -> str:
    """What a folder's name is as the name of a model: ``My Model_2`` becomes ``my-model-2``."""
    return re.sub(r"[^a-z0-9]+", "-", folder.absolute().resolve().name.lower()).strip("-")


def require_name(name: str, *, given: bool) -> None:
    """Refuse what cannot be the name of a model and of a repository of the lake.

    Raises:
        UsageError: with the rule; for a folder's name, with the option to give another.
    """
    if NAME.fullmatch(name) and len(name) >= REPOSITORY_LENGTH:
        return
    rule = "3 to 63 small letters, digits and hyphens, a letter or digit first"
    if given:
        raise UsageError(f'"{name}" is not the name of a project', place="--name", hint=rule)
    fact = f'the folder gives the name "{name}", which a project cannot have'
    raise UsageError(fact, hint=f"give another with --name: {rule}")


def package_of(name: str, folder: Path) -> str:
    """The Python package of a project: its name, unless Python or the environment has a module that is called so."""
    wanted = name.replace("-", "_")
    if (folder / "src" / wanted).is_dir():  # a second init, of a project that may be installed by now
        return wanted
    if wanted.isidentifier() and not keyword.iskeyword(wanted) and not is_taken(wanted):
        return wanted
    return f"project_{wanted}"


def is_taken(module: str) -> bool:
    """Whether ``import module`` means something already, outside the working folder."""
    if module in sys.stdlib_module_names or module in ("specs", "tests", "src", "sample_data"):
        return True
    elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != Path.cwd()]
    return importlib.machinery.PathFinder.find_spec(module, elsewhere) is not None


def contents(name: str, folder: Path) -> dict[str, str]:
    """Every file of a project in ``folder``, by its path."""
    words = {"@NAME@": name, "@PACKAGE@": package_of(name, folder), "@VERSION@": __version__}
    files = {
        filled(path, words): filled((TEMPLATES / template).read_text("utf-8"), words)
        for path, template in FILES.items()
    }
    return {**files, f"specs/{FILE}": schema_text(known_plugins(), known_metrics())}


def filled(text: str, words: Mapping[str, str]) -> str:
    """``text`` with each word's place taken by the word."""
    for place, word in words.items():
        text = text.replace(place, word)
    return text


def require_ways(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse to begin where a file lies in place of a folder, or a folder in place of a file.

    Raises:
        UsageError: for the first of them.
    """
    for path in [folder, *((folder / file).parent for file in files)]:
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise UsageError("is not a folder", place=str(path), hint="move it away, or name another folder")
    for path in [folder / file for file in files]:
        if path.is_dir():
            raise UsageError("is a folder", place=str(path), hint="move it away, or name another folder")


def put_new(path: Path, data: bytes) -> bool:
    """Put ``data`` at ``path`` whole, unless something is there; whether it was put."""
    if path.is_symlink() or path.exists():
        return False
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.link(temporary, path)  # unlike a rename it never takes another's place
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    return True


def same(path: Path, text: str) -> bool:
    """Whether a file has this text."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
