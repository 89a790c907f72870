"""``engine lake``: versioned data. The commands are in ``lake_*.py``, a group a file."""

from __future__ import annotations

import typer

from engine.cli import lake_history, lake_hook, lake_objects, lake_refs, lake_serve, lake_upkeep

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
GROUPS = (lake_refs, lake_objects, lake_history, lake_upkeep, lake_hook, lake_serve)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="lake", help=summary)


@app.callback()
def lake() -> None:
    """Versioned data: repositories, branches, tags, objects and their history."""


for group in GROUPS:
    group.register(app)
