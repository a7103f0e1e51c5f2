"""Tag every photo of a folder and write the tags to a CSV file.

python examples/tag_folder.py MODEL.patchct PHOTOS tags.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from patchct_edge import Tagger

SUFFIXES = (".jpg", ".jpeg", ".png")


def tag_folder(bundle: Path, folder: Path, target: Path) -> int:
    """Write a row `photo,tags` for each photo that can be read; return how many cannot be."""
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    unreadable = 0
    with Tagger.open(bundle) as tagger, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "tags"])
        for row in tagger.tag_files(photos):  # photos are decoded and tagged in parallel
            if row.tags is None:
                print(f"{row.path}: {row.error}", file=sys.stderr)
                unreadable += 1
            else:
                writer.writerow([row.path, "|".join(tag.label for tag in row.tags)])
    return unreadable


if __name__ == "__main__":
    sys.exit(1 if tag_folder(*map(Path, sys.argv[1:])) else 0)
