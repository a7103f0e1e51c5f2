"""What ships: the bundle, its manifest, preprocessing, calibrations and tags."""

from patchct_edge.bundle.bundle import Bundle
from patchct_edge.bundle.calibration import Calibration
from patchct_edge.bundle.manifest import Manifest
from patchct_edge.bundle.placement import Placement
from patchct_edge.bundle.preprocessing import Preprocessing
from patchct_edge.bundle.tags import Tag

__all__ = ["Bundle", "Calibration", "Manifest", "Placement", "Preprocessing", "Tag"]
