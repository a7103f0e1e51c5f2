"""patchct explain: where in a photo each label is, and which patches a label is made of."""

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

PICTURES = (".png", ".html")
NUMBERS = (".json", ".npy")
MOST = 100  # photos in one PNG, which is whole in memory


def explain(
    model: Annotated[Path, typer.Option(help="The bundle.", metavar="X.patchct")],
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
            help="A .png, .html, .json or .npy to write; maps.png or prototypes.png by default.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Show this label, predicted or not; repeatable; the tags by default."),
    ] = None,
    prototypes: Annotated[
        Path | None,
        typer.Option(
            help="Show the patches of this data set that carry each label most; none by default.",
            metavar="DATA",
        ),
    ] = None,
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
) -> ExitCode:
    """Show where in a photo each label is: heat maps as a picture or a page, or the numbers."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    _check_usage(inputs, prototypes, split or images)
    target = output or Path("prototypes.png" if prototypes else "maps.png")
    _check_output(target, PICTURES if prototypes else (*PICTURES, *NUMBERS))
    opened = Bundle(model)
    labels = _known(label or (), opened.labels)
    photos = _photos(inputs, target) if inputs else []
    data = (
        None
        if prototypes is None
        else options.read_dataset(
            prototypes, prefer="val", split=split, labels=opened.labels, images=images
        )
    )
    request = EngineRequest(
        engine, precision, similarity=True, latency=data is None, trust=trust_engine
    )
    with open_engine(opened, request) as running:
        if data is not None:
            complete = _draw_prototypes(opened, running, data, labels, target)
        else:
            complete = _explain_photos(opened, running, photos, labels, target)
    return ExitCode.OK if complete else ExitCode.SOME_INPUTS_FAILED


def _explain_photos(
    bundle: Bundle, engine: Engine, photos: list[Path], labels: Sequence[str], target: Path
) -> bool:
    """Write what is known of all photos that can be read; return whether that is all of them."""
    failed: list[Path] = []
    pictures = _readable(bundle, engine, photos, labels, failed)
    first = next(pictures, None)
    if first is not None:
        pictures = chain([first], console.track(pictures, "explaining", len(photos) - 1))
        with _writing(target):
            _writer(bundle, engine, labels, target)(pictures)
        logger.info(f"wrote {target}")
    return not failed


def _readable(
    bundle: Bundle, engine: Engine, photos: list[Path], labels: Sequence[str], failed: list[Path]
) -> Iterator[Explanation]:
    """Yield the photos that can be decoded, and warn of the others."""
    from patchct_edge.explain.maps import explain_photo

    for path in photos:
        try:
            yield explain_photo(bundle, engine, path, labels)
        except ImageError as error:
            failed.append(path)
            logger.warning(str(error))


def _writer(
    bundle: Bundle, engine: Engine, labels: Sequence[str], target: Path
) -> Callable[[Iterable[Explanation]], None]:
    """Return what writes explained photos, by the suffix of the file."""
    from patchct_edge.explain import numbers, overlay

    if target.suffix == ".json":
        about = {
            "model": bundle.manifest.fingerprint,
            "engine": engine.record.to_json(),
            "tau": bundle.manifest.tau,
            "grid": bundle.manifest.grid,
        }
        return lambda pictures: numbers.write_json(about, pictures, target)
    if target.suffix == ".npy":
        shown = labels or bundle.labels
        logger.info(f"labels: {', '.join(shown)}")
        columns = [bundle.labels.index(label) for label in shown]
        return lambda pictures: numbers.write_npy(columns, pictures, target)
    return lambda pictures: _write_figure(overlay.draw_map_figure(pictures), target)


def _draw_prototypes(
    bundle: Bundle, engine: Engine, data: Dataset, labels: Sequence[str], target: Path
) -> bool:
    """Draw the strongest patches of each label; return whether every photo could be read."""
    from patchct_edge.explain import prototypes

    with console.counting("searching", len(data)) as progress:
        result = prototypes.find_prototypes(bundle, engine, data, labels or bundle.labels, progress)
    for failure in result.unreadable:
        logger.warning(failure)
    with _writing(target):
        _write_figure(prototypes.draw_prototype_figure(result, bundle, data), target)
    logger.info(f"wrote {target}")
    return not result.unreadable


def _write_figure(figure: Figure, target: Path) -> None:
    from patchct_edge.explain.figure import write_png
    from patchct_edge.explain.page import write_html

    write = write_html if target.suffix == ".html" else write_png
    write(figure, target)


def _check_usage(
    inputs: list[str] | None, prototypes: Path | None, choice: str | Path | None
) -> None:
    """Refuse photos with a data set, neither of them, and a choice of a data set's photos alone."""
    if bool(inputs) == bool(prototypes):
        raise UserError(
            "explain takes either photos or --prototypes",
            got="both" if inputs else "neither",
            fix="patchct explain photo.jpg --model X.patchct",
        )
    if inputs and choice:
        raise UserError(
            "--split and --images belong to the data set of --prototypes",
            got=choice,
            fix="leave them out",
        )


def _check_output(target: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that cannot be written before anything is computed."""
    if target.suffix not in suffixes:
        raise UserError(
            f"cannot tell what to write to {target}",
            got=target.suffix or "no suffix",
            expected=" or ".join(suffixes),
            fix=f"-o maps{suffixes[0]}",
        )
    options.check_writable(target)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Tell what a file system refuses, such as a name too long or a disk that is full."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}", fix="another -o") from None


def _known(asked: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the labels that were asked for, each once."""
    for label in asked:
        if label not in labels:
            raise UserError(
                "the model has no such label", got=label, expected=did_you_mean(label, labels)
            )
    return list(dict.fromkeys(asked))


def _photos(inputs: list[str], target: Path) -> list[Path]:
    """Return the photos that are meant, none of which may be written over."""
    from patchct_edge.runtime.tagging.inputs import find_images

    found = list(find_images(inputs))
    if target.suffix == ".png" and len(found) > MOST:
        raise UserError(
            "too many photos for one picture",
            got=len(found),
            expected=f"at most {MOST}",
            fix="-o maps.html",
        )
    if options.is_same_file(target, found):
        raise UserError(f"-o would overwrite {target}", got="one of the photos", fix="another -o")
    return found
