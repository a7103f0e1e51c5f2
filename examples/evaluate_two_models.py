"""Compare two models on the same labeled photos.

python examples/evaluate_two_models.py OLD.patchct NEW.patchct labels.csv

Prints the mAP (mean over the labels of the average precision) of each with its 95% interval, and
the labels that the new model ranks better or worse.
"""

from __future__ import annotations

import sys
from pathlib import Path

from patchct_edge import Bundle, evaluate_bundle
from patchct_edge.datasets import read_dataset
from patchct_edge.evaluation.accuracy import Accuracy

MIN_CHANGE = 0.01  # of a label's average precision, 0..1


def evaluate_models(bundles: list[Path], data: Path, split: str = "val") -> list[Accuracy]:
    """Evaluate models with the fastest engine of each; the fields of Accuracy are 0..1."""
    accuracies = []
    for path in bundles:
        bundle = Bundle(path)
        dataset = read_dataset(data, split=split, labels=bundle.labels)
        accuracies.append(evaluate_bundle(bundle, dataset).accuracy)
    return accuracies


def find_changes(old: Accuracy, new: Accuracy) -> dict[str, float]:
    """Return the change of average precision of each label that both models know."""
    old_ap = {label.label: label.ap for label in old.labels}
    new_ap = {label.label: label.ap for label in new.labels}
    changes = {name: new_ap[name] - old_ap[name] for name in old_ap if name in new_ap}
    return {name: change for name, change in changes.items() if abs(change) >= MIN_CHANGE}


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:3]]
    accuracies = evaluate_models(paths, Path(sys.argv[3]))
    for path, accuracy in zip(paths, accuracies, strict=True):
        low, high = 100 * accuracy.map_low, 100 * accuracy.map_high
        print(f"{path}: mAP {100 * accuracy.map:.2f} ({low:.2f} to {high:.2f})")
    for name, change in find_changes(*accuracies).items():
        print(f"{name}: AP {100 * change:+.2f}")
