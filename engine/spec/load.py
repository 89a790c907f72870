"""YAML files and overrides -> a typed spec. The only reader of spec files, and the only importer of Hydra.

A file without a defaults list and without overrides *is* its own composition, so Hydra (0.3 s) is loaded only
when there is something to compose.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from engine.errors import EngineError, NotFound, Place, Problem, SpecInvalid, suggestion
from engine.plugins import describe, find, source_of
from engine.spec.checks import findings_of, placed
from engine.spec.grounds import Grounds, Shelf, digest_now, digest_of_text
from engine.spec.kept import composition_before, keep_composition
from engine.spec.model import SECRET, KeyPath, Spec, dotted
from engine.spec.parse import Composed, drop_nulls, known_keys, leaves, parse, shown
from engine.spec.positions import Layer, Positions, in_order, read, scan, syntax_problem
from engine.spec.project import project_root, source_roots
from engine.spec.surroundings import plugins_of, survey

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CLASS_OF_PROJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
TWICE = "yaml-duplicate-key"
"""The rule of a problem that leaves a spec to be judged: what stands last counts until one of the two is removed."""
SECRET_NAME = re.compile(f"{SECRET}([^\ue001]*)\ue001")
INDEX = re.compile(r"\[(\d+)\]")
OVERRIDE = re.compile(r"^(~|\+\+?)?([^=]*?)(=.*)?$", re.DOTALL)
MOST_FILES = 1000
MOST_INTERPOLATIONS = 20
IN_NO_FILE = ".standard-input.yaml"
INTERPOLATIONS = "an interpolation names another key of the spec, ${train.data}, or a variable, ${oc.env:NAME}"
ALLOWED_HYDRA = ("hydra/sweeper", "hydra.sweeper", "hydra.searchpath")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedSpec:
    """A spec, the file it was typed as, the project round it, and where each key stands.

    ``files`` are all the YAML files that it was composed from; ``warnings`` are problems that stop nothing.
    While all of its ``grounds`` are as they are the same can be said of it; without any that cannot be known.
    """

    spec: Spec
    path: Path
    shown: str
    root: Path
    overrides: tuple[str, ...] = ()
    positions: Positions = Positions()
    files: tuple[Path, ...] = ()
    warnings: tuple[Problem, ...] = field(default=())
    grounds: Grounds | None = None

    @property
    def shown_folder(self) -> Path:
        """The spec's folder as messages name it."""
        return Path(self.shown).parent


Keeping = Callable[[Path], Shelf | None]


def nowhere(_: Path) -> None:
    """Nothing is kept."""


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    *,
    text: str | None = None,
    keeping: Keeping = nowhere,
) -> LoadedSpec:
    """Read, compose and check a spec.

    Args:
        path: the spec as the user typed it, relative to ``folder`` (default: the working folder).
        overrides: in Hydra's grammar.
        text: the spec itself, when it is in no file; it is read as if it were in ``folder`` and called ``path``.
        keeping: where compositions are kept, for the project with this root.

    Raises:
        NotFound: when there is no such file.
        SpecInvalid: with every problem at once.
    """
    shown = str(path)
    here = folder or Path.cwd()
    main = find_spec(path, here) if text is None else here.resolve() / IN_NO_FILE
    root = project_root(main)
    shelf = keeping(root)
    composed = composed_once(main, shown, tuple(overrides), text, root, shelf)
    wrong = [problem for problem in composed.problems if problem.severity == "error"]
    if wrong and (not composed.values or any(problem.rule != TWICE for problem in wrong)):
        raise SpecInvalid(in_order(composed.problems))
    parsed = parse(composed)
    spec = parsed.spec
    found = list(parsed.problems)
    grounds = grounds_of(spec, composed, main.parent, root) if spec is not None and composed.repeatable else None
    if spec is not None:
        findings = findings_of(spec, survey(spec, main.parent, root, os.environ, Path(shown).parent, shelf))
        found += [
            placed(finding, composed)
            for finding in findings
            if not any(parsed.is_about_removed(path) for path in (finding.path, *finding.rests_on))
        ]
    problems = in_order([*composed.problems, *found])
    if spec is None or any(problem.severity == "error" for problem in problems):
        raise SpecInvalid(problems)
    return LoadedSpec(
        spec=spec,
        path=main,
        shown=shown,
        root=root,
        overrides=tuple(overrides),
        positions=composed.positions,
        files=composed.files,
        warnings=tuple(problems),
        grounds=grounds,
    )


def grounds_of(spec: Spec, composed: Composed, folder: Path, root: Path) -> Grounds | None:
    """What a spec is composed from and judged by; ``None`` when some of that cannot be read."""
    roots = source_roots(root)
    sources: dict[str, Path] = {}
    for kind, uses in plugins_of(spec):
        with suppress(EngineError):
            sources |= describe(find(kind, uses), roots).sources
    for module in named_modules(spec.train.with_):
        sources |= {module: path} if (path := source_of(module, roots)) else {}
    schemas = [folder / source.schema_ for source in spec.data.values() if isinstance(source.schema_, str)]
    texts = {path: digest_now(path) for path in (*schemas, *sources.values())}
    known = {path: digest for path, digest in texts.items() if digest is not None}
    if len(known) < len(texts):
        return None
    return Grounds(
        texts={**composed.grounds.texts, **known},
        folders=composed.grounds.folders,
        sources=sources,
        variables={name: name in os.environ for name in secret_names(composed.values)},
    )


def named_modules(given: Mapping[str, Any]) -> Iterator[str]:
    """The modules of the project's classes that a trainer's parameters name."""
    for _, value in leaves(given, ()):
        if isinstance(value, str) and CLASS_OF_PROJECT.fullmatch(value):
            yield value.partition(":")[0]


def secret_names(values: Any) -> set[str]:
    """The environment variables that are named anywhere in composed values."""
    return {name for _, value in leaves(values, ()) for name in SECRET_NAME.findall(str(value))}


def find_spec(path: str | Path, folder: Path) -> Path:
    """The spec's file, absolute.

    Raises:
        NotFound: when it is not there; the nearest spec is suggested.
    """
    given = folder / Path(path).expanduser()
    if given.is_file():
        return given.resolve()
    if given.is_dir():
        known = sorted(str(Path(path) / entry.name) for entry in given.glob("*.yaml"))
        raise NotFound("spec: this is a folder,", str(path), hint=suggestion("", known))
    around = given.parent if given.parent.is_dir() else folder
    known = [os.path.relpath(entry, folder) for entry in sorted([*around.glob("*.y*ml"), *folder.glob("specs/*.y*ml")])]
    raise NotFound("spec", str(path), known, hint="" if known else "copy specs/model.yaml to start from")


# -- composing -----------------------------------------------------------------------------------------


def composed_once(
    main: Path, shown: str, overrides: tuple[str, ...], text: str | None, root: Path, shelf: Shelf | None
) -> Composed:
    """As :func:`compose`, but what is on the shelf is not composed again."""
    if shelf is None or text is not None:
        return compose(main, shown, overrides, text)
    found = composition_before(main, shown, overrides, shelf, root)
    if found is None:
        found = compose(main, shown, overrides)
        keep_composition(found, main, shown, overrides, shelf)
    return found


def compose(main: Path, shown: str, overrides: tuple[str, ...], given: str | None = None) -> Composed:
    """The values of a spec after defaults lists, overrides and interpolations, with their positions."""
    try:
        text = main.read_text(encoding="utf-8-sig") if given is None else given
    except (UnicodeDecodeError, OSError) as error:
        fact = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        place = Place(file=shown, line=1, column=1)
        return failure(Problem(rule="yaml-syntax", fact=fact, place=place, hint="a spec is UTF-8 text"))
    seen = scan(text, shown)
    plain = not overrides and not needs_hydra(text, seen.spots)
    if any(problem.rule != TWICE for problem in seen.problems):
        return Composed(problems=seen.problems)
    twice = bool(seen.problems)
    layer = Layer(name=shown, spots=seen.spots)
    if plain:
        composed = finish(raw_values(text, twice=twice), Positions(layers=(layer,)), (main,))
    else:
        source = main
        if given is not None or twice:  # Hydra would refuse the file itself
            source = main.with_name(IN_NO_FILE)
            keep_in_memory(source.name, text, twice=twice)
        composed = compose_with_hydra(source, text, layer, overrides)
    texts = {main: digest_of_text(text), **composed.grounds.texts}
    problems = (*seen.problems, *composed.problems)
    return replace(composed, problems=problems, grounds=replace(composed.grounds, texts=texts))


def keep_in_memory(name: str, text: str, *, twice: bool) -> None:
    """Let Hydra find a spec that is in no file, or not as it is there."""
    from hydra.core.config_store import ConfigStore

    values = raw_values(text, twice=twice)
    if not isinstance(values, Problem):
        ConfigStore.instance().store(name=name, node=values)


def needs_hydra(text: str, spots: Mapping[KeyPath, object]) -> bool:
    """Whether a file says anything that only Hydra understands."""
    return ("defaults",) in spots or ("hydra",) in spots or "@package" in text


def raw_values(text: str, *, twice: bool = False) -> Any:
    """The file's values with interpolations in place. ``twice``: a key may be, and then the last one counts."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.create(yaml.safe_load(text) if twice else text)
    except yaml.MarkedYAMLError as error:
        return syntax_problem(error, "").problems[0]
    except OmegaConfBaseException as error:
        found = next((leaf for leaf in leaves(yaml.safe_load(text), ()) if not is_composable(leaf[1])), None)
        path, fact = (found[0], f"{shown(found[1])} is no interpolation") if found else ((), first_line(error))
        return Problem(rule="interpolation", fact=fact, place=Place(key=dotted(path)), hint=INTERPOLATIONS)
    except (yaml.YAMLError, ValueError) as error:
        return Problem(rule="yaml-syntax", fact=first_line(error), place=Place(), hint="check the quotes and braces")


def is_composable(value: Any) -> bool:
    """Whether the interpolations in a text are in OmegaConf's grammar."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create([value])
    except OmegaConfBaseException:
        return False
    return True


def finish(config: Any, positions: Positions, files: tuple[Path, ...]) -> Composed:
    """Drop null list items, resolve interpolations with the environment hidden, and give plain values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(config, Problem):
        found = positions.place(key_path(config.place.key))
        place = replace(found, line=config.place.line, column=config.place.column) if config.place.line else found
        return failure(replace(config, place=place))
    problems: list[Problem] = []
    values: Any = None
    while values is None and len(problems) < MOST_INTERPOLATIONS:
        try:
            with hidden_environment():
                values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
        except (OmegaConfBaseException, RecursionError) as error:
            problems.append(interpolation_problem(error, positions))
            if not cleared(config, problems[-1].place.key):
                break
    if problems:
        return Composed(problems=tuple(problems))
    values.pop("hydra", None)
    values.pop("defaults", None)
    kept, origin = drop_nulls(values)
    return Composed(values=kept, origin=origin, positions=positions, files=files)


def cleared(config: Any, key: str) -> bool:
    """Whether ``key`` could be emptied, so that what else is wrong can be found."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        if not key or OmegaConf.is_missing(config, key):
            return False
        OmegaConf.update(config, key, None)
    except (OmegaConfBaseException, AttributeError, KeyError, TypeError, ValueError, IndexError):
        return False
    return True


def failure(problem: Problem) -> Composed:
    """A composition that ended with one problem."""
    return Composed(problems=(problem,))


def interpolation_problem(error: Exception, positions: Positions) -> Problem:
    """OmegaConf's complaint about an interpolation, at the key that holds it."""
    path, hint = key_path(str(getattr(error, "full_key", "") or "")), INTERPOLATIONS
    if isinstance(error, RecursionError) or "ecursive" in str(error):
        fact = "the interpolations go round in a circle"
    elif missing := re.search(r"Interpolation key '([^']*)' not found", str(error)):
        wanted = key_path(missing[1])
        fact = f'no key "{missing[1]}" to take a value from'
        near = suggestion(str(wanted[-1]), known_keys(wanted[:-1])) if wanted else ""
        hint = near if near.startswith("did") else hint
    elif unknown := re.search(r"Unsupported interpolation type (\S+)", str(error)):
        fact = f'no interpolation "{unknown[1]}:"; with a colon there is only oc.env'
    else:
        fact = first_line(error)
    return Problem(rule="interpolation", fact=fact, hint=hint, place=positions.place(path))


def key_path(key: str) -> KeyPath:
    """``a.b[0]`` or ``a.b.0`` as a path."""
    return tuple(int(part) if part.isdigit() else part for part in INDEX.sub(r".\1", key).split(".") if part)


@contextmanager
def hidden_environment() -> Iterator[None]:
    """While inside, ``${oc.env:NAME,default}`` gives an opaque reference instead of a secret's value."""
    from omegaconf import OmegaConf
    from omegaconf.basecontainer import BaseContainer

    before = BaseContainer._resolvers.get("oc.env")

    def opaque(name: str, *default: object) -> str:
        fallback = "" if default in ((), (None,)) else str(default[0])
        return f"{SECRET}{name}\ue001{'optional' if default else 'required'}\ue001{fallback}\ue001"

    OmegaConf.register_new_resolver("oc.env", opaque, replace=True)
    try:
        yield
    finally:
        if before is not None:
            BaseContainer._resolvers["oc.env"] = before


def first_line(error: BaseException) -> str:
    """The first line of what a library says, which is the one that helps."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


# -- Hydra ------------------------------------------------------------------------------------------------


def compose_with_hydra(main: Path, text: str, layer: Layer, overrides: tuple[str, ...]) -> Composed:
    """Compose with Hydra: defaults lists, config groups and overrides."""
    from hydra import compose as hydra_compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    problems = [problem for override in overrides for problem in override_problems(override)]
    if problems:
        return Composed(problems=tuple(problems))
    typed = [hydra_override(override, main.parent) for override in overrides]
    # Hydra raises TypeError, AssertionError and others for some malformed input; this is its one door.
    foreign = (
        HydraException,
        OmegaConfBaseException,
        TypeError,
        ValueError,
        AssertionError,
        LookupError,
        AttributeError,
        OSError,
        RecursionError,
    )
    try:
        with opened(main.parent):
            defaults: Sequence[Any] = ()
            if chooses(main.parent, layer, overrides):  # it takes as long as composing
                loader = GlobalHydra.instance().config_loader()
                defaults = loader.compute_defaults_list(main.name, typed, RunMode.RUN).defaults
            layers, groups, found = group_layers(defaults, main, layer)
            if found:
                return Composed(problems=tuple(found))
            config = hydra_compose(main.name, overrides=typed)
    except yaml.MarkedYAMLError as error:
        return Composed(problems=problems_in_file(error, main, layer))
    except foreign as error:
        of_groups = () if overrides else tuple(problems_of_groups(main, layer))
        return Composed(problems=of_groups or (hydra_problem(error, layer, overrides, main),))
    layers += [override_layer(override) for override in overrides]
    return replace(
        finish(config, Positions(layers=tuple(layers)), (main, *groups)),
        grounds=Grounds(
            texts={path: digest_of_text(group) for path, group in groups.items()},
            folders={folder: folder.is_dir() for folder in map(partial(group_folder, main.parent), overrides)},
        ),
        repeatable=is_repeatable(defaults, main, (text, *groups.values()), overrides),
    )


def chooses(folder: Path, main: Layer, overrides: Sequence[str]) -> bool:
    """Whether a config group or another file has a part in what is composed."""
    own = any(path[:1] in (("defaults",), ("hydra",)) for path in main.spots)
    return own or any(names_group(folder, text) or "hydra" in text for text in overrides)


def names_group(folder: Path, override: str) -> bool:
    """Whether an override chooses an option of a config group."""
    key = split_override(override)[1]
    return "@" in key or "/" in key or group_folder(folder, override).is_dir()


def group_folder(folder: Path, override: str) -> Path:
    """The folder that makes an override the choice of a config group, if it is there."""
    return folder / INDEX.sub(r".\1", split_override(override)[1])


def is_repeatable(defaults: Sequence[Any], main: Path, texts: Sequence[str], overrides: Sequence[str]) -> bool:
    """Whether nothing but these texts and overrides decides what is composed.

    That is not so where a config may be missing, comes from another folder, or is named by an interpolation.
    """
    configs = [default.config_path for default in defaults if default.config_path and not default.primary]
    named = [str(defaults_in(text)) for text in texts]
    return (
        all(config.startswith("hydra/") or (main.parent / f"{config}.yaml").is_file() for config in configs)
        and not (main.parent / "hydra").exists()
        and not any("${" in text or "optional" in text for text in (*named, *overrides))
        and not any("searchpath" in text for text in (*texts, *overrides))
    )


def defaults_in(text: str) -> Any:
    """The defaults list of a file; ``None`` without one."""
    content = read(yaml.load, text) if "defaults" in text else None
    return content.get("defaults") if isinstance(content, dict) else None


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Hydra, initialised on a folder, and put back as it was afterwards."""
    from hydra import initialize_config_dir

    with warnings.catch_warnings(), initialize_config_dir(config_dir=str(folder), version_base="1.3"):
        warnings.simplefilter("ignore", UserWarning)  # a defaults list without _self_ is as good as one with it
        yield


def hydra_override(text: str, folder: Path) -> str:
    """An override as Hydra takes it: list items as ``a.0.b``, and known keys settable without ``+``.

    Whether a key exists is for the spec's own check to say, with the nearest name: so a plain override of a
    value is passed on as ``++``. An override that names a config group is left alone.
    """
    sign, key, rest = split_override(text)
    key = INDEX.sub(r".\1", key)
    if not sign and rest and not names_group(folder, text) and not key.startswith("hydra"):
        sign = "++"
    return f"{sign}{key}{rest}"


def split_override(text: str) -> tuple[str, str, str]:
    """``++a.b=1`` as ``("++", "a.b", "=1")``."""
    found = OVERRIDE.match(text)
    assert found is not None
    return found[1] or "", found[2].strip(), found[3] or ""


def override_place(text: str) -> str:
    """How messages name an override."""
    return f"override {text}"


def override_problems(text: str) -> Iterator[Problem]:
    """What can be said against an override before Hydra sees it."""
    sign, key, rest = split_override(text)
    place = Place(file=override_place(text))
    if not key or (not rest and sign != "~"):
        hint = "write key=value, +key=value or ~key"
        yield Problem(rule="override", fact="not an override", hint=hint, place=place)
        return
    if key.startswith("hydra") and not key.startswith(ALLOWED_HYDRA):
        hint = "only hydra/sweeper, hydra.sweeper.* and hydra.searchpath may be set"
        yield Problem(rule="spec-is-data", fact=f"`{key}` is not allowed in a spec", hint=hint, place=place)
    if "_target_" in text:
        hint = "name a plugin with `uses=`; a spec is data, not code"
        yield Problem(rule="spec-is-data", fact="`_target_` is not allowed in a spec", hint=hint, place=place)
    if sign == "~" and INDEX.sub(r".\1", key).rpartition(".")[2].isdigit():
        hint = f"set it to null: {INDEX.sub(r'.1', key)}=null"
        yield Problem(rule="override", fact="a list item cannot be deleted with ~", hint=hint, place=place)
    for resolver in ("${now:", "${hydra:"):
        if resolver in text:
            fact = f"`{resolver}...}}` changes from run to run"
            yield Problem(rule="interpolation-unstable", fact=fact, hint="write the value itself", place=place)


def override_layer(text: str) -> Layer:
    """An override as a layer of positions: its key and all below it lie in the override."""
    from engine.spec.positions import Spot

    _, key, _ = split_override(text)
    path = tuple(int(part) if part.isdigit() else part for part in INDEX.sub(r".\1", key).split("."))
    here = Spot(key=(0, 0), value=(0, 0))
    return Layer(name=override_place(text), spots={path: here})


def group_layers(defaults: Sequence[Any], main: Path, own: Layer) -> tuple[list[Layer], dict[Path, str], list[Problem]]:
    """The files of a defaults list as layers, in the order in which they win; their texts; what is wrong with them."""
    layers: list[Layer] = [] if defaults else [own]
    texts: dict[Path, str] = {}
    problems: list[Problem] = []
    for default in defaults:
        config, package = default.config_path, default.package or ""
        if config is None or config.startswith("hydra/"):
            continue
        if default.primary:
            layers.append(own)
            continue
        path = main.parent / f"{config}.yaml"
        if not path.is_file():
            continue
        shown = str(Path(own.name).parent / f"{config}.yaml")
        texts[path] = path.read_text(encoding="utf-8-sig")
        seen = scan(texts[path], shown)
        prefix = tuple(package.split(".")) if package else ()
        layers.append(Layer(name=shown, prefix=prefix, spots=seen.spots))
        problems += [problem for problem in seen.problems if problem.rule != "yaml-empty"]
    return layers, texts, problems


def problems_in_file(error: yaml.MarkedYAMLError, main: Path, own: Layer) -> tuple[Problem, ...]:
    """What is wrong with the file, of those that were composed, that is not YAML."""
    mark = error.problem_mark or error.context_mark
    path = Path(mark.name) if mark and mark.name else main
    shown = str(Path(own.name).parent / os.path.relpath(path, main.parent)) if path != main else own.name
    seen = scan(path.read_text(encoding="utf-8-sig", errors="replace"), shown) if path.is_file() else None
    return (seen.problems if seen else ()) or syntax_problem(error, shown).problems


def hydra_problem(error: Exception, layer: Layer, overrides: tuple[str, ...], main: Path) -> Problem:
    """Hydra's complaint as a problem with the place that it is about."""
    message = f"{error} {error.__cause__ or ''}"
    about = next((text for text in overrides if text.lstrip("+~") in message), None)
    available = re.search(r"Available options in '([^']*)':\n((?:\t.*\n?)+)", message)
    missing = re.search(r"Could not (?:find|load) '([^']*)'", message)
    deleted = re.search(r"Could not delete from config\. '([^']*)' does not exist", message)
    if missing and available:
        name = missing[1].rpartition("/")[2]
        options = [option.strip() for option in available[2].splitlines()]
        fact, hint = f'config group "{available[1]}" has no option "{name}"', suggestion(name, options)
        about = about or next((text for text in overrides if text.endswith(f"={name}")), None)
    elif missing:
        fact, hint = f'no config "{missing[1]}"', nearest_config(missing[1], main)
    elif deleted:
        path = key_path(deleted[1])
        fact, hint = f'there is no key "{deleted[1]}"', suggestion(str(path[-1]), known_keys(path[:-1]))
    elif isinstance(error, RecursionError):
        fact, hint = "the defaults lists go round in a circle", "let none of them lead back to one before it"
    elif "out of range" in message:
        fact, hint = "there is no such list item", "list items are counted from 0"
    else:
        fact, hint = (
            first_line(error.__cause__ or error),
            "see the override grammar of Hydra: key=value, +key=value, ~key",
        )
    if about is None and len(overrides) == 1 and not missing:
        about = overrides[0]
    if about is not None:
        return Problem(rule="override", fact=fact, hint=hint, place=Place(file=override_place(about)))
    path = item_of_defaults(missing[1], main) if missing else ("defaults",)
    place = Positions(layers=(layer,)).place(path, "value" if available or isinstance(path[-1], int) else "key")
    return Problem(rule="composition", fact=fact, hint=hint, place=place)


def nearest_config(name: str, main: Path) -> str:
    """What might be meant by a config that is not there: a group with that option, or a file beside the spec."""
    group, _, option = name.rpartition("/")
    files = main.parent.rglob(f"{option}.yaml") if group else main.parent.glob("*.yaml")
    known = {file.relative_to(main.parent).with_suffix("").as_posix() for file in islice(files, MOST_FILES)}
    near = suggestion(name, known - {main.stem})
    return near if near.startswith("did") else "groups are folders beside the spec: data/, train/, ..."


def item_of_defaults(name: str, main: Path) -> KeyPath:
    """Where a defaults list names a config: the option of a group, or the item."""
    group, _, option = name.rpartition("/")
    for path, owner, value in named_in_defaults(main):
        if value == (option if owner else name) and owner.split("/")[-1] == group.split("/")[-1]:
            return path
    return ("defaults",)


def named_in_defaults(main: Path) -> Iterator[tuple[KeyPath, str, str]]:
    """What a defaults list names: where it does, the config group (none for a file beside the spec), the option."""
    listed = defaults_in(main.read_text(encoding="utf-8-sig")) if main.is_file() else None
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(item, str):
            yield ("defaults", index), "", item
        for key, value in item.items() if isinstance(item, dict) else ():
            owner = re.split("[@:]", str(key).removeprefix("override "))[0].strip().strip("/")
            yield ("defaults", index, str(key)), owner, str(value)


def problems_of_groups(main: Path, own: Layer) -> Iterator[Problem]:
    """What is wrong with the files that a defaults list names, each by itself."""
    for _, group, option in named_in_defaults(main):
        path = main.parent / group / f"{option.removesuffix('.yaml')}.yaml"
        shown = str(Path(own.name).parent / path.relative_to(main.parent)) if path.is_file() else ""
        if shown and path != main:
            yield from problems_of_file(path, shown)


def problems_of_file(path: Path, shown: str) -> Iterator[Problem]:
    """What is wrong with a YAML file whatever it is mounted at."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        place = Place(file=shown, line=1, column=1)
        yield Problem(rule="yaml-syntax", fact=f"cannot be read: {error}", place=place, hint="a spec is UTF-8 text")
        return
    seen = scan(text, shown)
    found = () if seen.problems or not seen.spots else raw_values(text)
    yield from (problem for problem in seen.problems if problem.rule != "yaml-empty")
    if isinstance(found, Problem):
        positions = Positions(layers=(Layer(name=shown, spots=seen.spots),))
        yield replace(found, place=positions.place(key_path(found.place.key)))


# -- sweeps --------------------------------------------------------------------------------------------------


def expand_sweep(path: str | Path, overrides: Sequence[str], folder: Path | None = None) -> list[tuple[str, ...]]:
    """The overrides of each run of a multirun, by Hydra's own basic sweeper, in its order.

    Raises:
        NotFound: when there is no such spec.
        SpecInvalid: when an override does not parse.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    main = find_spec(path, folder or Path.cwd())
    problems = [problem for text in overrides for problem in override_problems(text)]
    if problems:
        raise SpecInvalid(problems)
    typed = [hydra_override(text, main.parent) for text in overrides]
    try:
        with opened(main.parent):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            parsed: list[Override] = parser.parse_overrides(typed)
            batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise SpecInvalid([hydra_problem(error, Layer(name=str(path)), tuple(overrides), main)]) from error
    plain = {INDEX.sub(r".\1", key) for sign, key, _ in map(split_override, overrides) if not sign}
    return [tuple(as_typed(text, plain) for text in run) for batch in batches for run in batch]


def as_typed(text: str, plain: set[str]) -> str:
    """An override without the ``++`` that :func:`hydra_override` gave it."""
    sign, key, rest = split_override(text)
    return f"{key}{rest}" if sign == "++" and key in plain else text
