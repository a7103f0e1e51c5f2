"""What is timed: engines, decoding, and whole ways from files to tags."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, ViTForImageClassification, ViTImageProcessor, pipeline

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.export.graph import EngineGraph
from patchct_edge.parallel import map_in_order
from patchct_edge.runtime.engines.base import BlockingEngine, Engine, Outputs
from patchct_edge.runtime.engines.openvino import OpenVINOEngine
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.tagger import Tagger
from patchct_edge.runtime.tagging.writers import open_writer

BATCHES = (1, 8)


class Contestant(NamedTuple):
    """One thing to time: `run` works through `count` images."""

    group: str
    name: str
    batch: int
    count: int
    run: Callable[[], object]


class Eager(BlockingEngine):
    """The model in PyTorch, float32, as an engine."""

    def __init__(self, graph: EngineGraph) -> None:
        super().__init__()
        self._graph = graph

    def compute(self, images: ImageBatch) -> Outputs:
        with torch.inference_mode():
            return Outputs(self._graph(torch.from_numpy(images))[0].numpy(), None)


def of_engines(
    bundle: Bundle, graph: EngineGraph, files: list[Path], stack: ExitStack
) -> Iterator[Contestant]:
    """Yield every engine at every batch size, on pixels that are in memory."""
    pixels = np.stack([bundle.preprocessing.read(path) for path in files[:64]])
    engines: dict[str, Engine] = {
        "PyTorch eager FP32": Eager(graph),
        "ONNX Runtime FP32": open_engine(bundle, EngineRequest("onnxruntime", "fp32")),
        "OpenVINO f32": open_engine(bundle, EngineRequest("openvino", "fp32")),
        # "int8" leaves the arithmetic of floats to OpenVINO, which takes bf16 where there is any.
        "OpenVINO bf16": OpenVINOEngine(bundle.graph_path("fp32"), "int8"),
        "OpenVINO INT8": open_engine(bundle, EngineRequest("openvino", "int8")),
    }
    for name, engine in engines.items():
        stack.enter_context(engine)
        for batch in BATCHES:
            run = _bound(_streamed, engine, pixels, batch)
            yield Contestant("engine", name, batch, len(pixels), run)


def from_files(
    bundle: Bundle, encoder: Path, files: list[Path], target: Path, stack: ExitStack
) -> Iterator[Contestant]:
    """Yield decoding alone, and what makes a file of tags from files of photos."""
    preprocessing, count = bundle.preprocessing, len(files)
    yield Contestant("decode", "decode pool", 1, count, _bound(_decoded, preprocessing, files))
    tagger = stack.enter_context(Tagger.open(bundle.path))
    yield Contestant(
        "files to tags", "patchct tag", 8, count, _bound(_tagged, tagger, files, target)
    )
    classify = _pipeline(encoder, preprocessing, len(bundle.labels))
    names = [str(path) for path in files]
    yield Contestant("files to tags", "transformers pipeline", 8, count, lambda: classify(names))
    plain = stack.enter_context(open_engine(bundle, EngineRequest("onnxruntime", "fp32")))
    for batch in BATCHES:
        run = _bound(_plain_loop, plain, preprocessing.size, files, batch)
        yield Contestant("files to tags", "Pillow + ONNX Runtime loop", batch, count, run)


def _streamed(engine: Engine, pixels: ImageBatch, batch: int) -> None:
    """Keep as many batches under way as the engine likes."""
    running = 0
    for first in range(0, len(pixels), batch):
        engine.submit(pixels[first : first + batch])
        running += 1
        if running > engine.concurrency:
            engine.result()
            running -= 1
    for _ in range(running):
        engine.result()


def _decoded(preprocessing: Preprocessing, files: list[Path]) -> None:
    workers = os.cpu_count() or 1
    deque(map_in_order(preprocessing.read, files, workers=workers, max_pending=32), maxlen=0)


def _tagged(tagger: Tagger, files: list[Path], target: Path) -> None:
    with open_writer(target, "jsonl") as sink:
        for row in tagger.tag_files(files):
            sink.write(row)


def _plain_loop(engine: Engine, size: int, files: list[Path], batch: int) -> None:
    """Do what a script would: open, resize, run, one batch after another."""
    waiting = iter(files)
    while group := list(islice(waiting, batch)):
        pictures = [
            np.asarray(Image.open(p).convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
            for p in group
        ]
        1 / (1 + np.exp(-engine.infer(np.stack(pictures)).logits))


def _pipeline(
    encoder: Path, preprocessing: Preprocessing, labels: int
) -> Callable[[list[str]], object]:
    """Return the pipeline of `transformers` around a ViT of the same shape, on the CPU."""
    config = AutoConfig.from_pretrained(encoder, num_labels=labels)
    side = {"height": preprocessing.size, "width": preprocessing.size}
    return pipeline(  # type: ignore[no-any-return]
        "image-classification",
        model=ViTForImageClassification(config).eval(),
        image_processor=ViTImageProcessor(
            size=side, image_mean=list(preprocessing.mean), image_std=list(preprocessing.std)
        ),
        batch_size=8,
        device="cpu",
        function_to_apply="sigmoid",
        top_k=labels,
    )


def _bound(function: Callable[..., object], *args: object) -> Callable[[], object]:
    return lambda: function(*args)
