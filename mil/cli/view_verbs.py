"""Verbs that show results."""

import typer

from mil.options import configured
from mil.run_folder import Run
from mil.view import ViewConfig
from mil.view import view as view_run

from .app import Interrupted, RunFolder, app


@app.command()
@configured(view_config=ViewConfig)
def view(run: RunFolder, view_config: ViewConfig) -> None:
    """Show the cohort, slides and heatmaps in a browser.

    Nothing leaves this machine.
    """
    try:
        view_run(
            Run(run), view_config, report=lambda url: typer.echo(f"open {url} in a browser; Ctrl-C ends it")
        )
    except Interrupted:
        typer.echo("ended")
