"""``engine predict``."""

from __future__ import annotations

import typer

from engine.cli import view


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("predict", help=summary)(command)


def command(
    model: str = typer.Argument(..., metavar="MODEL[@ALIAS|:VERSION]", help="Which model."),
    source: str = typer.Option(..., "--input", metavar="URI", help="lakefs://REPOSITORY/REF/PATH, or a file."),
    target: str = typer.Option(
        ..., "--output", metavar="URI", help="lakefs://REPOSITORY/BRANCH/PATH.parquet, or a file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Predict every row of a table; in a lake the result is one commit that names the model and its run."""
    import os

    from engine.cli.lake_progress import rows_done
    from engine.registry.model import ModelRef
    from engine.scoring import require_output, score, table_at
    from engine.serve.loading import load
    from engine.wiring import home_here, serving

    home = home_here()
    ref = ModelRef.parse(model)
    if ref.alias is None and ref.version is None and "production" in home.registry.aliases(ref.name):
        ref = ModelRef(name=ref.name, alias="production")
    version = home.registry.get(ref)
    place = require_output(target, home.lake)
    table = table_at(source, home.lake)
    loaded = load(version, home.store, serving(home).settings_of(version), len(os.sched_getaffinity(0)))
    with rows_done("predicting") as told:
        done = score(loaded, table, place, home.lake, home.path / "tmp", told)
    if as_json:
        view.document(
            {
                "model": {"name": version.name, "version": version.version, "digest": f"sha256:{version.digest}"},
                "run": loaded.run,
                "input": table.shown,
                "output": done.output,
                "commit": done.commit or None,
                "rows": done.rows,
            }
        )
    else:
        view.line(f"{done.rows:,} rows predicted by {version.name}:{version.version}")
        view.line(f"  input   {table.shown}")
        view.line(f"  output  {done.output}")
    return 0
