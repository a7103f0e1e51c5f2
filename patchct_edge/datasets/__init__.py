"""Labelled pictures from a CSV, a COCO JSON or a VOC folder: paths and labels, no pixels."""

from __future__ import annotations

from patchct_edge.datasets.boxes_file import Boxes, ObjectBox, read_boxes
from patchct_edge.datasets.labels_file import LabelsFile, read_labels_file
from patchct_edge.datasets.read import divided, read_dataset, read_whole, select
from patchct_edge.datasets.sample import DataSet, Sample

__all__ = [
    "Boxes",
    "DataSet",
    "LabelsFile",
    "ObjectBox",
    "Sample",
    "divided",
    "read_boxes",
    "read_dataset",
    "read_labels_file",
    "read_whole",
    "select",
]
