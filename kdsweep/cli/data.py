"""`kdsweep data`: writes synthetic scans, checks data sets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdsweep.cli.app import app, command
from kdsweep.cli.words import Commands
from kdsweep.errors import DataError

data_app = typer.Typer(
    cls=Commands, help="Write synthetic scans; check data sets.", no_args_is_help=True
)
app.add_typer(data_app, name="data")


@command(
    "kdsweep data synth semantickitti --out /tmp/streets --scenes 8 --seed 1",
    "kdsweep data synth semantickitti --out /tmp/coarse --scenes 4 --beams 32 --columns 1024",
    of=data_app,
)
def synth(
    layout: Annotated[Literal["semantickitti"], typer.Argument(help="Layout of the files.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    scenes: Annotated[int, typer.Option(help="Streets, training and validation together.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    beams: Annotated[int, typer.Option(help="Laser beams.")] = 64,
    columns: Annotated[int, typer.Option(help="Azimuth steps of one turn.")] = 2048,
    scans_per_scene: Annotated[int, typer.Option(help="Scans along each street.")] = 1,
) -> None:
    """Write ray-cast streets in the layout of SemanticKITTI; clearly synthetic, all 19 classes."""
    from pydantic import ValidationError
    from rich.progress import Progress

    from kdsweep.data.synthetic import SynthConfig, write_semantickitti
    from kdsweep.spec.faults import translate

    given = {
        **{"scenes": scenes, "seed": seed, "beams": beams, "columns": columns},
        "scans_per_scene": scans_per_scene,
    }
    try:
        config = SynthConfig.model_validate(given)
    except ValidationError as error:
        faults = translate(error, SynthConfig, given)
        options = [f"--{fault.path[0]}".replace("_", "-") for fault in faults]
        told = [f"{name} {fault.text}" for name, fault in zip(options, faults, strict=True)]
        raise DataError("; ".join(told)) from None
    with Progress(transient=True) as bar:
        task = bar.add_task(f"Ray-casting {layout} scans", total=None)
        write_semantickitti(
            config, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(f"Wrote {scenes * scans_per_scene} synthetic scans to {out}")


@command(
    "kdsweep data check /data/semantickitti",
    "kdsweep data check /data/nuscenes --format nuscenes --version v1.0-mini",
    "kdsweep data check /data/CUB_200_2011 --format cub200",
    of=data_app,
)
def check(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.", show_default=False)],
    format: Annotated[
        Literal[
            "semantickitti",
            "nuscenes",
            "cub200",
            "cars196",
            "online_products",
            "image_folder",
            "cifar100",
        ],
        typer.Option(help="Layout of the folder."),
    ] = "semantickitti",
    version: Annotated[
        Literal["v1.0-mini", "v1.0-trainval", "v1.0-test"],
        typer.Option(help="nuScenes only: the folder of tables."),
    ] = "v1.0-trainval",
) -> None:
    """Read every scan and label, or every image, of a data set; list the damaged files."""
    from rich.progress import Progress

    from kdsweep.data.check import check_images, check_root
    from kdsweep.data.nuscenes import NuScenes
    from kdsweep.data.scans import ScanReader
    from kdsweep.data.semantickitti import SemanticKitti

    with Progress(transient=True) as bar:
        task = bar.add_task("Reading", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if format == "semantickitti" or format == "nuscenes":
            reader: ScanReader = (
                SemanticKitti(root)
                if format == "semantickitti"
                else NuScenes(root, version=version)
            )
            scans = check_root(reader, progress=progress)
            faults = scans.faults
            found = f"{scans.num_scans} scans, {scans.num_points:,} points"
        else:
            images = check_images(root, format, progress=progress)
            faults, found = images.faults, f"{images.num_images} images"
    for fault in faults:
        print(fault)
    print(f"{found}, {len(faults)} faults")
    if faults:
        raise typer.Exit(1)
