"""Verbs that work on features."""

from pathlib import Path
from typing import Annotated

import typer

from features import DEFAULT_ENCODER, ENCODERS, EncoderConfig, PretrainConfig
from mil import show
from mil.extract import ExtractConfig
from mil.extract import extract as extract_run
from mil.options import Several, configured
from mil.pack import pack as pack_run
from mil.pretrain import pretrain as pretrain_encoder
from mil.probe import ProbeConfig
from mil.probe import probe as probe_encoders
from mil.run_folder import Run
from mil.search import QueryOptions, SearchConfig
from mil.search import search as search_run

from .app import RunFolder, app


@app.command()
@configured(encoders=Several(EncoderConfig, by=("encoder", "weights")), extract_config=ExtractConfig)
def extract(run: RunFolder, encoders: tuple[EncoderConfig, ...], extract_config: ExtractConfig) -> None:
    """Encode the tiles of each slide into a bag of features.

    Several encoders can do so in one pass.
    """
    show.finish(Run(run), extract_run(Run(run), encoders, extract_config))


@app.command()
def pack(
    run: RunFolder,
    out: Annotated[
        str | None,
        typer.Argument(help="a folder or s3://... and the like [default: RUN/features/NAME.zarr]"),
    ] = None,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features to pack")] = DEFAULT_ENCODER,
) -> None:
    """Pack the features of all slides into one store.

    `train` reads it in their stead.
    """
    typer.echo(pack_run(Run(run), encoder, out))
    show.finish(Run(run), also=("pack",))


@app.command()
@configured(asked=QueryOptions, search_config=SearchConfig)
def search(
    run: RunFolder,
    asked: QueryOptions,
    search_config: SearchConfig,
    encoder: Annotated[str, typer.Option("--encoder", help="whose features are compared")] = DEFAULT_ENCODER,
) -> None:
    """Find the tiles most like a tile, a region or a picture."""
    show.hits(search_run(Run(run), asked.query(), encoder, search_config))


@app.command()
@configured(encoders=Several(EncoderConfig, by=("encoder", "weights")), probe_config=ProbeConfig)
def probe(
    tiles: Annotated[
        Path, typer.Argument(help="folder of pictures, a subfolder a class; or CSV: file, label")
    ],
    out: Annotated[Path, typer.Argument(help="folder for the table, the plot and the vectors")],
    encoders: tuple[EncoderConfig, ...],
    probe_config: ProbeConfig,
) -> None:
    """Measure how well encoders tell apart tiles of known class.

    Several stand side by side.
    """
    show.probed(probe_encoders(tiles, out, encoders, probe_config))


@app.command()
@configured(pretrain_config=PretrainConfig)
def pretrain(
    sources: Annotated[
        list[Path], typer.Argument(help="folders of pictures, run folders, or bags with patches")
    ],
    out: Annotated[Path, typer.Argument(help="the encoder's folder, which --encoder takes")],
    pretrain_config: PretrainConfig,
) -> None:
    """Train an encoder of one's own on unlabelled tiles.

    The same command again goes on where it was.
    """
    done = pretrain_encoder(sources, out, pretrain_config)
    if done.rank == 0:  # of several processes one tells
        show.pretrained(done)


@app.command()
def encoders() -> None:
    """List the encoders by name."""
    show.encoders([ENCODERS[name].card for name in ENCODERS])
