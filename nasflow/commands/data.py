"""``nasflow data check|split``: look at images of one's own, and write down which is in which part."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow.assemble import resolve_data
from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config, Set, selection
from nasflow.cli.request import Action, Outcome, Selection
from nasflow.commands.first_look import Telling, Told
from nasflow.commands.project import open_project
from nasflow.config import PipelineConfig
from pipeline.config.loader import find_config, load_config
from stages.data.config import DataConfig, open_dataset

if TYPE_CHECKING:
    from stages.data.catalogue import Catalogue
    from stages.data.inventory import Inventory
    from stages.data.split_file import SplitFile

HTML_SUFFIXES = (".html", ".htm")


def check(selection: Selection, directory: Path | None, html: Path | None) -> Outcome:
    """All that is to be known of the images before a run; ``html``: where to write the sheet.

    Exit code 2 where they cannot be learned from: what was found is shown all the same. Raises UsageError
    where they cannot even be listed, or the sheet would lie in their folder; DatasetMissingError.
    """
    from nasflow.own_images.document import as_document
    from nasflow.own_images.findings import data_root, examine
    from nasflow.own_images.keep_out import check_outside
    from nasflow.own_images.words import screen_text

    config, base_dir = _settings(selection, directory)
    data = _own_images(config, base_dir)
    root = data_root(data)
    hint = "Name a file in another folder: --html /tmp/images.html"
    if html is not None:
        if html.suffix.lower() not in HTML_SUFFIXES:
            raise UsageError(f"{html} does not end in .html.", hint=hint)
        check_outside(html, root, hint=hint)
    told = Told()
    telling = Telling(data, told)
    findings = examine(
        data,
        resolution=lambda inventory: _resolution(config, base_dir, inventory),
        progress=telling.reading,
        comparing=telling.comparing,
    )
    document: dict[str, Any] = as_document(findings)
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    lines = [screen_text(findings, width)]
    if html is not None:
        from nasflow.own_images.sheet import render_sheet

        check_outside(html, root, (image.path for image in findings.inventory.images), hint=hint)
        content = render_sheet(findings).encode("utf-8", "backslashreplace")
        write_atomic(html, content)
        document["html"] = str(html.resolve())
        lines += ["", f"Wrote {html}: copies and samples as pictures."]
    elif findings.exact or findings.pairs:
        lines += ["", "With --html FILE, copies and samples as they are trained on are written as pictures."]
    return Outcome(document, "\n".join(lines), 0 if findings.problem is None else findings.problem.exit_code)


def split(selection: Selection, directory: Path | None, out: Path, *, force: bool) -> Outcome:
    """Write which image is in which part into a file that ``data.split_file`` takes back.

    Raises UsageError where there is such a file and ``force`` is not set, where it would lie in the folder of
    the images, or where they cannot be split; DatasetMissingError.
    """
    from nasflow.own_images.findings import data_root
    from nasflow.own_images.keep_out import check_outside
    from nasflow.own_images.warnings import image_warnings
    from stages.data.catalogue import catalogue_of
    from stages.data.dataset import PARTS
    from stages.data.split_file import split_bytes

    config, base_dir = _settings(selection, directory)
    data = _own_images(config, base_dir)
    hint = "Name a file in another folder, as that of pipeline.yaml: --out split.jsonl"
    check_outside(out, data_root(data), hint=hint)
    if out.exists() and not force:
        raise UsageError(f"{out} already exists.", hint="Choose another file, or replace it with --force.")
    told = Told()
    telling = Telling(data, told)
    catalogue = catalogue_of(data, telling.reading, telling.comparing)
    paths = (image.path for image in catalogue.inventory.images)
    check_outside(out, data_root(data), paths, hint=hint)
    write_atomic(out, split_bytes(_written(catalogue, data)))
    given_back = out if base_dir is None else Path(os.path.relpath(out, base_dir))  # as paths there are meant
    counts = {part: len(catalogue.splitting.keys(part)) for part in PARTS}
    said = ", ".join(f"{count:,} {part}" for part, count in counts.items())
    if catalogue.splitting.shared:
        said += " (architecture and choice are the same images)"
    return Outcome(
        {
            "written": str(out.resolve()),
            "parts": counts,
            "shared_choice": catalogue.splitting.shared,
            "left_out": dict(catalogue.left_out()),
            "warnings": list(image_warnings(catalogue)),
        },
        "\n".join(
            [
                *message_lines(told.events),
                *(f"warning: {text}" for text in image_warnings(catalogue)),
                f"Wrote {out}: {said}.",
                f"Give it back in pipeline.yaml, section data: split_file: {given_back}",
                *(["Unset data.folds beside it: folds cut other parts."] if data.folds is not None else []),
            ]
        ),
    )


def _written(catalogue: Catalogue, data: DataConfig) -> SplitFile:
    from stages.data.catalogue import shares_of, usable
    from stages.data.split_file import SplitFile, SplitLine

    splitting, listed = catalogue.splitting, catalogue.inventory.listing.images
    readable = usable(catalogue.inventory)
    lines = tuple(
        SplitLine(
            path=listed[number].path,
            label=listed[number].label,
            sha256=catalogue.inventory.images[number].sha256 or "",
            part=splitting.parts.get(listed[number].path),
            left_out=splitting.left_out.get(listed[number].path),
        )
        for number in readable
    )
    given = [listed[n].part for n in readable if splitting.left_out.get(listed[n].path) != "exact-copy"]
    return SplitFile(lines, data.split_seed, shares_of(data, given), splitting.shared)


def _settings(selection: Selection, directory: Path | None) -> tuple[PipelineConfig, Path | None]:
    """The configuration, and the folder of its paths; None for the second where there is no project.

    A named ``directory`` takes the settings of the project whose ``data.path`` it is, or of a named
    ``--config``; else the defaults.
    """
    if directory is None:
        project = open_project(selection)
        return project.config, project.base_dir
    path = selection.config if selection.config is not None else find_config(Path.cwd())
    named = directory.expanduser().resolve()
    base_dir = None if path is None else path.absolute().parent
    if base_dir is not None and selection.config is None:
        data = resolve_data(load_config(PipelineConfig, path, tell=lambda _notice: None).data, base_dir)
        if data.source != "folder" or data.path is None or Path(data.path) != named:
            path = base_dir = None
    # What belongs to a data set of the hub is none of this folder.
    own = ("data.source=folder", "data.path=.", "data.name=null", "data.revision=null")
    overrides = (*selection.overrides, *own)
    config = load_config(PipelineConfig, path, overrides, tell=lambda _notice: None)
    # Not by way of YAML: a name on the disk need not be text.
    data = config.data.model_copy(update={"path": str(named)})
    return config.model_copy(update={"data": data}), base_dir


def _own_images(config: PipelineConfig, base_dir: Path | None) -> DataConfig:
    data = resolve_data(config.data, base_dir or Path.cwd())
    if data.source == "fashion_mnist":
        raise UsageError(
            "data.source is fashion_mnist, whose images are known.",
            hint="Name a folder or table of images of your own: nasflow data check DIR",
        )
    if config.offline and data.source == "hub":
        open_dataset(data).check_at_hand()
    return data


def _resolution(config: PipelineConfig, base_dir: Path | None, inventory: Inventory) -> int | None:
    """That of the project's networks; None where there is no project."""
    from stages.space import space_for

    side = inventory.median_shorter_side()
    if base_dir is None or side is None:
        return None
    return space_for(
        config.space,
        base_dir,
        classes=len(inventory.listing.class_names),
        channels=None,
        natural_resolution=side,
    ).resolution


Directory = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="A folder of images or a table (CSV, TSV, JSONL); default: data.path of this project.",
        show_default=False,
    ),
]
group = typer.Typer(rich_markup_mode=None, add_completion=False)


@group.command(name="check")
def check_command(
    directory: Directory = None,
    config: Config = None,
    assignments: Set = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write copies and samples as pictures into one file."),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Look at images: counts, sizes, broken files, copies, parts, and what they can show.

    Nothing is written into their folder. The exit code is 2 if they cannot be learned from as they are.
    """

    chosen = selection(config, assignments, None, None)
    return lambda: check(chosen, directory, html)


@group.command(name="split")
def split_command(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    directory: Directory = None,
    config: Config = None,
    assignments: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write down which image is in which part; data.split_file takes it back."""

    chosen = selection(config, assignments, None, None)
    return lambda: split(chosen, directory, out, force=force)
