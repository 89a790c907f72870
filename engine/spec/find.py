"""Which files are meant: a file, a folder with everything in it that is a spec, a pattern, or standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import NotFound

STANDARD_INPUT = "-"
ENDINGS = (".yaml", ".yml")
NEEDED = ("name", "data", "features", "target", "train", "evaluate")
"""The sections that a spec needs; written here so that finding specs does not import what types them."""

LEAST = 3
"""A file with this many of the sections that a spec needs is one, typing errors in the others or not."""

TOP_KEY = re.compile(r"""^["']?([A-Za-z_]\w*)["']?[ \t]*:(?=\s|$)""", re.MULTILINE)
CONTENT = re.compile(r"^\s*[^\s#]", re.MULTILINE)
OWN_ENVIRONMENT = "pyvenv.cfg"
NOT_OURS = frozenset({"node_modules", "__pycache__"})
DEEPEST = 5


def specs_at(given: str, folder: Path) -> list[str]:
    """The specs that one word of a command line means, as messages name them.

    A file is taken as it is, be it there or not. Of a folder, and of a pattern (``**`` goes down folders), every
    file that looks like a spec is taken: config groups, schemas and actions of the lake are passed over.

    Raises:
        NotFound: when a folder has no spec, nothing matches a pattern, or a pipe or device is named.
    """
    path = folder / Path(given).expanduser()
    if given == STANDARD_INPUT or path.is_file():
        return [given]
    hint = f"a spec is a YAML file with {', '.join(NEEDED)}"
    if path.is_dir():
        found = [str(Path(given) / file.relative_to(path)) for file in files_below(path) if is_spec(file)]
        if not found:
            raise NotFound("spec in the folder", given, hint=hint)
        return found
    if glob.has_magic(given):
        matched = sorted(glob.glob(str(Path(given).expanduser()), root_dir=folder, recursive=True))  # noqa: PTH207  (absolute, too)
        found = [name for name in matched if name.endswith(ENDINGS) and is_meant(name, folder)]
        if not found:
            raise NotFound("spec that matches", given, hint=hint)
        return found
    if path.exists():
        hint = "it is no regular file: give it on standard input, as `engine validate - < FILE`"
        raise NotFound("spec that can be read twice at", given, hint=hint)
    return [given]


def files_below(folder: Path) -> Iterator[Path]:
    """Every YAML file below a folder by its path; hidden folders, environments of Python and the like are left out."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if is_ours(Path(at, name)))
        yield from (Path(at, name) for name in sorted(names) if name.endswith(ENDINGS) and not name.startswith("."))


def is_meant(name: str, folder: Path) -> bool:
    """Whether a pattern that matches ``name`` means it."""
    return all(is_ours(folder / parent) for parent in Path(name).parents if parent.name) and is_spec(folder / name)


def is_ours(folder: Path) -> bool:
    """Whether a project's own files may be in a folder."""
    return not folder.name.startswith(".") and folder.name not in NOT_OURS and not (folder / OWN_ENVIRONMENT).exists()


def is_spec(file: Path, depth: int = 0) -> bool:
    """Whether a file looks like a spec: by its sections and those that its defaults list fills, or by its base.

    It need not be right, or YAML at all. What is mounted elsewhere (``@package``) is a part of a spec. One that is
    empty is a spec that lost its content if a spec lies beside it.
    """
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return False
    if not depth and not CONTENT.search(text):
        return any(is_spec(one, 1) for one in file.parent.iterdir() if one.name.endswith(ENDINGS))
    if "@package" in text.partition("\n")[0] or depth > DEEPEST:
        return False
    groups, bases = defaults_of(text)
    if len({*NEEDED} & {*TOP_KEY.findall(text), *groups}) >= LEAST:
        return True
    return any(is_spec(file.parent / f"{base.removesuffix('.yaml')}.yaml", depth + 1) for base in bases)


def defaults_of(text: str) -> tuple[set[str], list[str]]:
    """The config groups and the other files that a defaults list names."""
    heads = list(TOP_KEY.finditer(text))
    at = next((index for index, head in enumerate(heads) if head[1] == "defaults"), None)
    if at is None:
        return set(), []
    import yaml  # few specs have a defaults list

    end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
    try:
        content: Any = yaml.safe_load(text[heads[at].start() : end])
    except yaml.YAMLError:
        return set(), []
    items = content.get("defaults") if isinstance(content, dict) else None
    listed = items if isinstance(items, list) else []
    names = [str(name) for item in listed if isinstance(item, dict) for name in item]
    groups = {re.split("[@:]", name.removeprefix("override ").strip().lstrip("/"))[0].strip() for name in names}
    return groups, [item for item in listed if isinstance(item, str) and item != "_self_"]
