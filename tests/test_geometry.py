"""`Grid` and `Reorientation`: a voxel must never end up at another place in the world."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st
from nibabel.eulerangles import euler2mat

from napari_medattn.errors import GeometryError
from napari_medattn.geometry import Grid, Reorientation

SHAPE = (4, 5, 6)
ORIENTATIONS = [
    "".join(pick) for axes in itertools.permutations(("RL", "AP", "SI")) for pick in itertools.product(*axes)
]
DIRECTION = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def stored_as(orientation: str, spacing_xyz=(1.0, 2.0, 3.0), shape=SHAPE) -> Grid:
    """A grid whose x, y, z voxel axes run into the named world directions."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, letter in enumerate(orientation):
        world, sign = DIRECTION[letter]
        affine[world, column] = sign * spacing_xyz[column]
    affine[:3, 3] = (-7.0, 11.0, 5.0)
    return Grid(shape, affine)


def world_of(grid_affine: np.ndarray, z: float, y: float, x: float) -> np.ndarray:
    return (grid_affine @ (x, y, z, 1.0))[:3]


@st.composite
def oblique_affines(draw) -> np.ndarray:
    """Rotation by any angles, spacing 0.1 to 20, any axis order and direction, any offset."""
    angle = st.floats(-3.1, 3.1)
    spacing = np.diag([draw(st.floats(0.1, 20.0)) for _ in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(draw(angle), draw(angle), draw(angle)) @ spacing
    if draw(st.booleans()):
        affine[:3, 0] *= -1
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


class TestGrid:
    def test_spacing_is_in_array_order(self):
        assert Grid(SHAPE, np.diag([1.0, 2.0, 3.0, 1.0])).spacing == (3.0, 2.0, 1.0)

    def test_from_spacing_takes_array_order(self):
        assert Grid.from_spacing(SHAPE, (3.0, 2.0, 1.0)).spacing == (3.0, 2.0, 1.0)

    @given(oblique_affines())
    def test_spacing_is_the_world_distance_of_neighbours(self, affine):
        here = world_of(affine, 1, 1, 1)
        neighbours = [world_of(affine, 2, 1, 1), world_of(affine, 1, 2, 1), world_of(affine, 1, 1, 2)]
        distances = [np.linalg.norm(there - here) for there in neighbours]
        np.testing.assert_allclose(Grid(SHAPE, affine).spacing, distances, rtol=1e-9)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_orientation_names_the_directions_of_x_y_z(self, orientation):
        assert stored_as(orientation).orientation == orientation

    def test_a_small_tilt_does_not_change_the_orientation(self):
        affine = np.eye(4)
        affine[:3, :3] = euler2mat(0.3, -0.2, 0.25)
        assert Grid(SHAPE, affine).orientation == "RAS"

    @pytest.mark.parametrize(
        "affine",
        [
            np.zeros((4, 4)),
            np.diag([1.0, 1.0, 0.0, 1.0]),
            np.diag([1.0, np.nan, 1.0, 1.0]),
            np.diag([1.0, np.inf, 1.0, 1.0]),
            np.ones((4, 4)),
            np.eye(3),
        ],
        ids=["zeros", "flat", "nan", "inf", "singular", "3x3"],
    )
    def test_an_affine_that_places_nothing_is_refused(self, affine):
        with pytest.raises(GeometryError, match="affine"):
            Grid(SHAPE, affine)

    def test_nanometre_voxels_are_a_valid_grid(self):
        """Electron microscopy: 4 x 4 x 40 nm, in mm."""
        grid = Grid.from_spacing(SHAPE, (4e-5, 4e-6, 4e-6))
        assert grid.spacing == pytest.approx((4e-5, 4e-6, 4e-6))

    def test_the_affine_cannot_be_changed_afterwards(self):
        with pytest.raises(ValueError, match="read-only"):
            Grid.from_spacing(SHAPE, (1, 1, 1)).affine[0, 0] = 2

    def test_the_callers_own_array_stays_writable(self):
        mine = np.eye(4)
        Grid(SHAPE, mine)
        mine[0, 3] = 5.0
        assert mine[0, 3] == 5.0

    def test_a_view_that_the_caller_changes_does_not_move_the_grid(self):
        many = np.stack([np.eye(4)] * 2)
        grid = Grid(SHAPE, many[0])
        many[0, 0, 3] = 5.0
        assert grid.affine[0, 3] == 0.0

    def test_equal_grids_match(self):
        assert stored_as("LPS").matches(stored_as("LPS"))

    def test_grids_of_another_shape_do_not_match(self):
        assert not stored_as("LPS").matches(stored_as("LPS", shape=(4, 5, 7)))

    def test_a_shift_beyond_the_tolerance_does_not_match(self):
        moved = np.array(stored_as("RAS").affine)
        moved[1, 3] += 0.01
        assert not stored_as("RAS").matches(Grid(SHAPE, moved))

    def test_spacings_that_only_part_at_the_far_corner_do_not_match(self):
        a, b = Grid.from_spacing((4, 4, 400), (1, 1, 1)), Grid.from_spacing((4, 4, 400), (1, 1, 1.00001))
        assert not a.matches(b)


class TestDisplayTranslate:
    def test_a_ras_grid_is_shown_at_its_world_origin(self):
        assert stored_as("RAS").display_translate == (5.0, 11.0, -7.0)

    def test_an_axis_against_the_world_counts_in_its_own_direction(self):
        assert stored_as("LPS").display_translate == (5.0, -11.0, 7.0)

    def test_swapped_axes_take_their_own_offset(self):
        assert stored_as("SRA").display_translate == (11.0, -7.0, 5.0)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_scans_of_one_orientation_lie_on_each_other(self, orientation):
        """A crop that begins at voxel (1, 2, 3) is shown where that voxel is shown."""
        whole = stored_as(orientation)
        affine = np.array(whole.affine)
        affine[:3, 3] = world_of(whole.affine, 1, 2, 3)
        crop = Grid((3, 3, 3), affine)
        expected = np.array(whole.display_translate) + np.array(whole.spacing) * (1, 2, 3)
        np.testing.assert_allclose(crop.display_translate, expected)


class TestReorientation:
    @pytest.mark.parametrize("target", ["RAS", "LPS", "SAR"])
    @pytest.mark.parametrize("source", ORIENTATIONS)
    def test_undo_takes_apply_back(self, source, target):
        turn = Reorientation.between(stored_as(source), target)
        array = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE)
        np.testing.assert_array_equal(turn.undo(turn.apply(array)), array)

    @pytest.mark.parametrize("target", ["RAS", "LPS", "SAR"])
    @pytest.mark.parametrize("source", ORIENTATIONS)
    def test_values_stay_at_their_place_in_the_world(self, source, target):
        """Along each target axis the world coordinate that it names grows."""
        grid = stored_as(source)
        z, y, x = np.indices(SHAPE)
        world = np.stack([sum(grid.affine[a, c] * i for c, i in enumerate((x, y, z))) for a in range(3)])
        turned = Reorientation.between(grid, target).apply(world)
        for column, letter in enumerate(target):
            axis, sign = DIRECTION[letter]
            steps = np.diff(turned[axis], axis=2 - column)
            assert (sign * steps > 0).all()

    @pytest.mark.parametrize("source", ORIENTATIONS)
    def test_reordered_spacing_is_that_of_the_turned_axes(self, source):
        grid = stored_as(source)
        z, y, x = Reorientation.between(grid, "RAS").reorder(grid.spacing)
        lengths = np.abs(grid.affine[:3, :3]).sum(axis=1)  # along world x, y, z
        assert (x, y, z) == tuple(lengths)

    def test_the_own_orientation_changes_nothing(self):
        turn = Reorientation.between(stored_as("PIR"), "PIR")
        assert turn == Reorientation((0, 1, 2), (False, False, False))

    @given(oblique_affines(), st.sampled_from(ORIENTATIONS))
    def test_any_affine_and_target_round_trips(self, affine, target):
        turn = Reorientation.between(Grid(SHAPE, affine), target)
        array = np.arange(np.prod(SHAPE)).reshape(1, *SHAPE)
        np.testing.assert_array_equal(turn.undo(turn.apply(array)), array)

    @given(oblique_affines(), st.sampled_from(ORIENTATIONS))
    def test_any_affine_turns_into_the_wanted_directions(self, affine, target):
        """The turned grid's affine, found by following three voxels, has the wanted orientation."""
        grid = Grid(SHAPE, affine)
        z, y, x = np.indices(SHAPE)
        world = np.einsum("ac,czyx->azyx", affine[:3], np.stack([x, y, z, np.ones_like(x)]))
        turned = Reorientation.between(grid, target).apply(world)
        origin = turned[:, 0, 0, 0]
        columns = [turned[:, 0, 0, 1] - origin, turned[:, 0, 1, 0] - origin, turned[:, 1, 0, 0] - origin]
        found = np.eye(4)
        found[:3, :3], found[:3, 3] = np.stack(columns, axis=1), origin
        assert Grid(turned.shape[1:], found).orientation == target
