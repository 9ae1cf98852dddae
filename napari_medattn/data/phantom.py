"""Phantoms: made-up scans with known labels, for the demo, the samples and the tests.

A phantom is a body with a spine, a large organ with vessels and a small paired one, seen through noise and
the slow brightness change of a coil. Shapes, places and brightness follow from the seed. They are drawings, not
anatomy: nothing learned from them holds for people.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.data.formats import write_labels
from napari_medattn.data.volume import Volume
from napari_medattn.files import atomic_write
from napari_medattn.geometry import Grid, Triple

CLASS_NAMES = ("background", "large organ", "small organ")
LICENCE = "CC0 1.0, generated"
Shape = tuple[int, int, int]


def phantom(
    seed: int, shape: Shape = (48, 80, 80), spacing: Triple = (2.0, 1.5, 1.5)
) -> tuple[Volume, NDArray[np.uint8]]:
    """Draw a phantom.

    Args:
        seed: All that is random follows from it.
        shape: (Z, Y, X) voxels; Z = 1 draws a single slice.
        spacing: (Z, Y, X) in mm.

    Returns:
        The image as int16 (1, Z, Y, X) and its labels (Z, Y, X), see `CLASS_NAMES`.
    """
    random = np.random.default_rng([seed, 20260])
    spatial_dims = 2 if shape[0] == 1 else 3
    z, y, x = _warped_coordinates(random, shape)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.bool_]:
        offsets = [(a - c) / r for a, c, r in zip((z, y, x), centre, radii, strict=True)]
        if spatial_dims == 2:
            offsets[0] = np.zeros(1)
        return sum(offset**2 for offset in offsets) < 1  # type: ignore[return-value]

    def near(*values: float) -> tuple[float, ...]:
        return tuple(v + random.uniform(-0.07, 0.07) for v in values)

    def about(*values: float) -> tuple[float, ...]:
        return tuple(v * random.uniform(0.82, 1.18) for v in values)

    body = ellipsoid((0.0, 0.0, 0.0), (1.6, 0.84, 0.92))
    spine = ellipsoid((0.0, 0.55, 0.0), (3.0, 0.14, 0.13))
    large = ellipsoid(near(0.05, -0.18, -0.38), about(0.62, 0.40, 0.36)) & body
    vessels = _vessels(random, shape) & large
    small = ellipsoid(near(-0.1, 0.30, 0.42), about(0.42, 0.19, 0.14))
    small |= ellipsoid(near(-0.1, 0.32, -0.46), about(0.36, 0.17, 0.13)) & ~large
    small &= body & ~spine
    gut = ellipsoid(near(0.1, -0.25, 0.42), about(0.5, 0.26, 0.24)) & body & ~small

    image = np.where(body, 260.0, 12.0)
    for part, value in ((gut, 330.0), (large, 470.0), (vessels, 620.0), (small, 560.0), (spine, 130.0)):
        image[part] = value * random.uniform(0.93, 1.07)
    labels = np.zeros(shape, np.uint8)
    labels[large] = 1
    labels[small] = 2
    labels[spine] = 0
    image = ndimage.gaussian_filter(image, 0.6 if spatial_dims == 3 else (0, 0.6, 0.6))
    coil = 1 + 0.18 * (random.uniform(-1, 1) * y + random.uniform(-1, 1) * x)
    texture = _smooth_noise(random, shape, 2.0) * 18
    noise = np.hypot(image * coil + texture + random.normal(0, 16, shape), random.normal(0, 16, shape))
    grid = Grid.from_spacing(shape, spacing)
    volume = Volume(noise.astype(np.int16)[None], grid, name=f"phantom {seed}", spatial_dims=spatial_dims, notes=())
    return volume, labels


def write_phantom_set(folder: Path, cases: int, shape: Shape, spacing: Triple, first_seed: int = 1000) -> None:
    """Write a data folder of phantoms for `medattn train`: images, labels and ``dataset.json``."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + cases):
        volume, labels = phantom(seed, shape, spacing)
        write_image(folder / "images" / f"phantom_{seed}.nii.gz", volume)
        write_labels(folder / "labels" / f"phantom_{seed}.nii.gz", labels, like=volume)
    facts = {
        "name": "phantoms",
        "labels": dict(enumerate(CLASS_NAMES)),
        "modality": "drawn, MRI-like",
        "licence": LICENCE,
        "source": "napari_medattn.data.phantom",
    }
    with atomic_write(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_image(path: Path, volume: Volume) -> None:
    """Write a single-channel volume as NIfTI."""
    import nibabel as nib

    data = volume.array[0].T
    with atomic_write(path) as temporary:
        image = nib.Nifti1Image(data[:, :, 0] if volume.spatial_dims == 2 else data, volume.grid.affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, temporary)


def _warped_coordinates(random: np.random.Generator, shape: Shape) -> list[NDArray[np.float64]]:
    """Coordinates in -1..1 along (Z, Y, X), bent a little so that no outline is a clean ellipse."""
    bend = 0.11 * shape[-1]
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    grids = np.meshgrid(*axes, indexing="ij")
    return [grid + 0.07 * _smooth_noise(random, shape, bend) for grid in grids]


def _vessels(random: np.random.Generator, shape: Shape) -> NDArray[np.bool_]:
    """Thin winding sheets where two smooth fields are both near zero."""
    a, b = _smooth_noise(random, shape, 4.0), _smooth_noise(random, shape, 4.0)
    return (np.abs(a) < 0.35) & (np.abs(b) < 0.35)


def _smooth_noise(random: np.random.Generator, shape: Shape, sigma: float) -> NDArray[np.float64]:
    sigmas = [0 if n == 1 else sigma for n in shape]
    field = ndimage.gaussian_filter(random.normal(size=shape), sigmas, mode="wrap")
    return field / field.std()  # type: ignore[no-any-return]
