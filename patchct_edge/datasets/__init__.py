"""Labeled photos from a CSV, a COCO JSON or a VOC folder: paths and labels, no pixels."""

from __future__ import annotations

from patchct_edge.datasets.boxes import Boxes, ObjectBox, read_boxes
from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.labels import LabelsFile, read_labels_file
from patchct_edge.datasets.read import (
    read_all_splits,
    read_dataset,
    select_split,
    split_off_validation,
)

__all__ = [
    "Boxes",
    "Dataset",
    "LabelsFile",
    "ObjectBox",
    "Sample",
    "read_all_splits",
    "read_boxes",
    "read_dataset",
    "read_labels_file",
    "select_split",
    "split_off_validation",
]
