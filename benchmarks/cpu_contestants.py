"""The contestants of the CPU benchmark: engines, decoding, and whole paths from file to tags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
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
from patchct_edge.parallel import count_workers, map_in_order
from patchct_edge.runtime.engines.base import BlockingEngine, Engine, Outputs
from patchct_edge.runtime.engines.openvino import OpenVINOEngine
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.tagger import Tagger
from patchct_edge.runtime.tagging.writers import open_writer

BATCHES = (1, 8)
ENGINE, DECODE, FILES_TO_TAGS = "engine", "decode", "files to tags"  # tasks
ENGINE_IMAGES = 64
PIPELINE_BATCH = 8


class Contestant(NamedTuple):
    """Something to time: `run` processes `images` images."""

    task: str
    name: str
    batch: int
    images: int
    run: Callable[[], object]


class EagerEngine(BlockingEngine):
    """Run the model in PyTorch, eager, float32."""

    def __init__(self, graph: EngineGraph) -> None:
        super().__init__()
        self._graph = graph

    def compute(self, images: ImageBatch) -> Outputs:
        with torch.inference_mode():
            return Outputs(self._graph(torch.from_numpy(images))[0].numpy(), None)


def engine_contestants(
    bundle: Bundle, graph: EngineGraph, photos: list[Path], stack: ExitStack
) -> Iterator[Contestant]:
    """Yield every engine at every batch size, on images in memory."""
    images = np.stack([bundle.preprocessing.read(path) for path in photos[:ENGINE_IMAGES]])
    engines: dict[str, Engine] = {
        "PyTorch eager FP32": EagerEngine(graph),
        "ONNX Runtime FP32": open_engine(bundle, EngineRequest("onnxruntime", "fp32")),
        "OpenVINO f32": open_engine(bundle, EngineRequest("openvino", "fp32")),
        # Given "int8", OpenVINO chooses the arithmetic of floats: bf16 if the CPU has it.
        "OpenVINO bf16": OpenVINOEngine(bundle.graph_path("fp32"), "int8"),
        "OpenVINO INT8": open_engine(bundle, EngineRequest("openvino", "int8")),
    }
    for name, engine in engines.items():
        stack.enter_context(engine)
        for batch in BATCHES:
            run = partial(_run_engine, engine, images, batch)
            yield Contestant(ENGINE, name, batch, len(images), run)


def file_contestants(
    bundle: Bundle, encoder: Path, photos: list[Path], output: Path, stack: ExitStack
) -> Iterator[Contestant]:
    """Yield decoding alone, and every path from files of photos to a file of tags."""
    preprocessing, count = bundle.preprocessing, len(photos)
    decode = partial(_decode, preprocessing, photos)
    yield Contestant(DECODE, "decode pool", 1, count, decode)
    tagger = stack.enter_context(Tagger.open(bundle.path))
    tag = partial(_tag, tagger, photos, output)
    yield Contestant(FILES_TO_TAGS, "patchct tag", tagger.engine.best_batch, count, tag)
    classify = _create_pipeline(encoder, preprocessing, len(bundle.labels))
    run_pipeline = partial(classify, [str(path) for path in photos])
    yield Contestant(FILES_TO_TAGS, "transformers pipeline", PIPELINE_BATCH, count, run_pipeline)
    engine = stack.enter_context(open_engine(bundle, EngineRequest("onnxruntime", "fp32")))
    for batch in BATCHES:
        run = partial(_run_simple_loop, engine, preprocessing.size, photos, batch)
        yield Contestant(FILES_TO_TAGS, "Pillow + ONNX Runtime loop", batch, count, run)


def _run_engine(engine: Engine, images: ImageBatch, batch: int) -> None:
    """Infer all images with as many batches in flight as the engine supports."""
    in_flight = 0
    for start in range(0, len(images), batch):
        engine.submit(images[start : start + batch])
        in_flight += 1
        if in_flight > engine.concurrency:
            engine.result()
            in_flight -= 1
    for _ in range(in_flight):
        engine.result()


def _decode(preprocessing: Preprocessing, photos: list[Path]) -> None:
    workers = count_workers()
    deque(map_in_order(preprocessing.read, photos, workers=workers, max_pending=32), maxlen=0)


def _tag(tagger: Tagger, photos: list[Path], output: Path) -> None:
    with open_writer(output, "jsonl") as writer:
        for row in tagger.tag_files(photos):
            writer.write(row)


def _run_simple_loop(engine: Engine, size: int, photos: list[Path], batch: int) -> None:
    """Do what a short script does: open, resize and infer, one batch after another."""
    paths = iter(photos)
    while group := list(islice(paths, batch)):
        images = []
        for path in group:
            photo = Image.open(path).convert("RGB")
            images.append(np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR)))
        1 / (1 + np.exp(-engine.infer(np.stack(images)).logits))


def _create_pipeline(
    encoder: Path, preprocessing: Preprocessing, labels: int
) -> Callable[[list[str]], object]:
    """Create the pipeline of `transformers` for a ViT of the same shape, on the CPU."""
    config = AutoConfig.from_pretrained(encoder, num_labels=labels)
    side = {"height": preprocessing.size, "width": preprocessing.size}
    return pipeline(
        "image-classification",
        model=ViTForImageClassification(config).eval(),
        image_processor=ViTImageProcessor(
            size=side, image_mean=list(preprocessing.mean), image_std=list(preprocessing.std)
        ),
        batch_size=PIPELINE_BATCH,
        device="cpu",
        function_to_apply="sigmoid",
        top_k=labels,
    )
