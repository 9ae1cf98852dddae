"""Make the sample files in this folder, or a folder of phantoms to train on.

python sample_data/generate.py                    the two samples, beside this script
python sample_data/generate.py phantoms-3d 48     48 volumes with labels, for `medattn train`
python sample_data/generate.py phantoms-2d 240 2  240 slices with labels, likewise
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_medattn.data.phantom import phantom, write_image, write_phantom_set

# Shape (Z, Y, X) and voxel size in mm by number of spatial axes.
KINDS = {3: ((48, 80, 80), (2.0, 1.5, 1.5)), 2: ((1, 160, 160), (1.0, 0.75, 0.75))}


def main() -> None:
    """Write what the command line asks for."""
    if len(sys.argv) > 1:
        dims = int(sys.argv[3]) if len(sys.argv) > 3 else 3
        write_phantom_set(Path(sys.argv[1]), int(sys.argv[2]), *KINDS[dims])
        return
    here = Path(__file__).parent
    write_image(here / "phantom_volume.nii.gz", phantom(1, *KINDS[3])[0])
    write_image(here / "phantom_slice.nii.gz", phantom(2, *KINDS[2])[0])


if __name__ == "__main__":
    main()
