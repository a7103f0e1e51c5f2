"""patchct explain: show where in a photo each label is, or which patches a label is made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode, ImageError, UserError, did_you_mean

if TYPE_CHECKING:
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import Dataset
    from patchct_edge.explain.figure import Figure
    from patchct_edge.explain.maps import Explanation
    from patchct_edge.runtime.engines.base import Engine

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".html")
NUMBER_SUFFIXES = (".json", ".npy")
MAX_PNG_PHOTOS = 100  # a PNG is held in memory as a whole


def explain(
    model: options.ModelPath,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photos: files, folders, patterns, or - to read a list from stdin.",
            metavar="IMAGE",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: png, html, json or npy; maps.png or prototypes.png by default.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Label to show, whether tagged or not; repeatable; the tags by default.",
            metavar="LABEL",
        ),
    ] = None,
    prototypes: Annotated[
        Path | None,
        typer.Option(
            help="Show the patches of this dataset that are most similar to each label; no "
            "dataset by default.",
            metavar="DATA",
        ),
    ] = None,
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
) -> ExitCode:
    """Show where in a photo each label is: heat maps as a picture, a page, or numbers."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    _check_usage(inputs, prototypes, split or images)
    target = output or Path("prototypes.png" if prototypes else "maps.png")
    suffixes = PICTURE_SUFFIXES if prototypes else (*PICTURE_SUFFIXES, *NUMBER_SUFFIXES)
    _check_output(target, suffixes)
    bundle = Bundle(model)
    labels = _check_labels(label or (), bundle.labels)
    photos = _find_photos(inputs, target) if inputs else []
    dataset = (
        None
        if prototypes is None
        else options.read_dataset(
            prototypes, default_split="val", split=split, labels=bundle.labels, images=images
        )
    )
    request = EngineRequest(
        engine, precision, similarity=True, latency=dataset is None, trust=trust_engine
    )
    with open_engine(bundle, request) as opened_engine:
        if dataset is not None:
            complete = _draw_prototypes(bundle, opened_engine, dataset, labels, target)
        else:
            complete = _explain_photos(bundle, opened_engine, photos, labels, target)
    return ExitCode.OK if complete else ExitCode.SOME_INPUTS_FAILED


def _explain_photos(
    bundle: Bundle, engine: Engine, photos: list[Path], labels: Sequence[str], target: Path
) -> bool:
    """Write the explanations of all readable photos; return whether every photo was readable."""
    unreadable: list[Path] = []
    explanations = _explain_readable(bundle, engine, photos, labels, unreadable)
    first = next(explanations, None)
    if first is not None:
        explanations = chain([first], console.track(explanations, "explaining", len(photos) - 1))
        with _report_write_errors(target):
            _choose_writer(bundle, engine, labels, target)(explanations)
        logger.info(f"wrote {target}")
    return not unreadable


def _explain_readable(
    bundle: Bundle,
    engine: Engine,
    photos: list[Path],
    labels: Sequence[str],
    unreadable: list[Path],
) -> Iterator[Explanation]:
    """Explain the photos that can be decoded; warn of the others and add them to `unreadable`."""
    from patchct_edge.explain.maps import explain_photo

    for path in photos:
        try:
            yield explain_photo(bundle, engine, path, labels)
        except ImageError as error:
            unreadable.append(path)
            logger.warning("%s", error)


def _choose_writer(
    bundle: Bundle, engine: Engine, labels: Sequence[str], target: Path
) -> Callable[[Iterable[Explanation]], None]:
    """Return the function that writes explanations in the format of the target's suffix."""
    from patchct_edge.explain import numbers, overlay

    if target.suffix == ".json":
        header = {
            "model": bundle.manifest.fingerprint,
            "engine": engine.record.to_json(),
            "tau": bundle.manifest.tau,
            "grid": bundle.manifest.grid,
        }
        return lambda explanations: numbers.write_json(header, explanations, target)
    if target.suffix == ".npy":
        array_labels = labels or bundle.labels
        logger.info(f"labels: {', '.join(array_labels)}")
        columns = [bundle.labels.index(label) for label in array_labels]
        return lambda explanations: numbers.write_npy(columns, explanations, target)
    return lambda explanations: _write_figure(overlay.draw_map_figure(explanations), target)


def _draw_prototypes(
    bundle: Bundle, engine: Engine, dataset: Dataset, labels: Sequence[str], target: Path
) -> bool:
    """Draw the most similar patches of each label; return whether every photo was readable."""
    from patchct_edge.explain.prototypes import draw_prototype_figure, find_prototypes

    with console.progress() as progress:
        advance = progress.stage("searching patches", len(dataset))
        prototypes = find_prototypes(bundle, engine, dataset, labels or bundle.labels, advance)
    for failure in prototypes.unreadable:
        logger.warning(failure)
    with _report_write_errors(target):
        _write_figure(draw_prototype_figure(prototypes, bundle, dataset), target)
    logger.info(f"wrote {target}")
    return not prototypes.unreadable


def _write_figure(figure: Figure, target: Path) -> None:
    from patchct_edge.explain.figure import write_png
    from patchct_edge.explain.page import write_html

    write = write_html if target.suffix == ".html" else write_png
    write(figure, target)


def _check_usage(
    inputs: list[str] | None, prototypes: Path | None, dataset_option: str | Path | None
) -> None:
    """Refuse both or neither of photos and a dataset, and a dataset's options without one."""
    if bool(inputs) == bool(prototypes):
        raise UserError(
            "explain takes either photos or --prototypes",
            got="both" if inputs else "neither",
            fix="patchct explain photo.jpg --model X.patchct",
        )
    if inputs and dataset_option:
        raise UserError(
            "--split and --images belong to the dataset of --prototypes",
            got=dataset_option,
            fix="leave them out",
        )


def _check_output(target: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    if target.suffix not in suffixes:
        raise UserError(
            f"the suffix of {target} is not supported here",
            got=target.suffix or "no suffix",
            expected=" or ".join(suffixes),
            fix=f"-o maps{suffixes[0]}",
        )
    options.check_writable(target)


@contextmanager
def _report_write_errors(target: Path) -> Iterator[None]:
    """Turn what a file system refuses, such as a name too long, into an error of the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}", fix="choose another -o"
        ) from None


def _check_labels(requested: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the requested labels, each once, after checking that the model has them."""
    for label in requested:
        if label not in labels:
            raise UserError(
                "the model has no such label", got=f"{label}, {did_you_mean(label, labels)}"
            )
    return list(dict.fromkeys(requested))


def _find_photos(inputs: list[str], target: Path) -> list[Path]:
    """Return the photos to explain, none of which may be overwritten."""
    from patchct_edge.runtime.tagging.inputs import find_images

    photos = list(find_images(inputs))
    if target.suffix == ".png" and len(photos) > MAX_PNG_PHOTOS:
        raise UserError(
            "too many photos for one PNG",
            got=len(photos),
            expected=f"at most {MAX_PNG_PHOTOS}",
            fix="-o maps.html",
        )
    if options.is_same_file(target, photos):
        raise UserError(
            f"-o would overwrite {target}", got="one of the photos", fix="choose another -o"
        )
    return photos
