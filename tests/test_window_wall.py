"""The wall of heads, channels and gates, and borders of patches, in a real napari."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Vectors
from qtpy.QtCore import Qt

from napari_medattn.data import Preparation
from napari_medattn.models import create_model, position_gates
from napari_medattn.store import Card, load_checkpoint, save_checkpoint
from napari_medattn.widgets.look.cut import cut_in_view, grey_of, outline_of, to_bytes
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment, tick, wait_for_maps

COLUMNS, LOCAL, LOCAL_ROWS = (
    "layer1.0.column_attention",
    "local.layer1.0.column_attention",
    "local.layer1.0.row_attention",
)
MEDT = {
    "in_channels": 1,
    "num_classes": 2,
    "spatial_dims": 2,
    "image_size": 64,
    "patches": 2,
    "local_positions": "gated",
}
DAE = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}


@pytest.fixture
def viewer(make_napari_viewer):
    """A viewer that is on the screen, because these windows rest while nobody can see them."""
    return make_napari_viewer(show=True)


def dock_with(viewer, scan, qtbot, network, arguments, tile):
    made = Card(network, network, arguments, ("background", "a"), Preparation(), tile)
    save_checkpoint(made, create_model(network, **arguments))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, network, qtbot)
    return dock


@pytest.fixture
def axial(viewer, scan, qtbot):
    """A dock with a MedT that was never trained."""
    return dock_with(viewer, scan, qtbot, "medt", MEDT, (1, 64, 64))


@pytest.fixture
def wall(axial, qtbot):
    """The wall with the first site of the global branch."""
    tick(axial, COLUMNS)
    wait_for_maps(axial, 1, qtbot)
    tool = axial.look.open_tool("Wall of heads", "wall", "WallTool")
    wait_until_drawn(tool, qtbot)
    return tool


@pytest.fixture
def channels(viewer, scan, qtbot):
    """The window of channels of a DAE-Former."""
    dock = dock_with(viewer, scan, qtbot, "dae_former", DAE, (1, 48, 48))
    tool = dock.look.open_tool("Channels, gates", "channels", "ChannelsTool")
    qtbot.waitUntil(lambda: tool.plots.image.image is not None, timeout=PATIENCE)
    return tool


def wait_until_drawn(wall, qtbot):
    def drawn():
        assert not wall.live.busy
        assert wall.said.text() == ""
        assert not wall.watch._soon.isActive()

    qtbot.waitUntil(drawn, timeout=PATIENCE)


def pictures(wall):
    """The map of each head as it is shown, 0 to 255."""
    return [middle.image for _, middle, _ in wall.grid.layers]


def expected(wall, head):
    """The same from the atlas."""
    box = wall.live.atlas.scene.placement(COLUMNS).everything
    at = wall.live.frame
    drawn = wall.live.atlas.draw(COLUMNS, head, (slice(at, at + 1), *box[1:]))[0]
    return to_bytes(drawn, wall._limits)


class TestCut:
    """What stands beside the canvas is laid out as on it."""

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1), (2, 0, 1)])
    def test_rows_run_down_as_on_the_canvas(self, order):
        values = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
        viewer = ViewerModel()
        image = viewer.add_image(values, scale=(3, 1, 0.5), contrast_limits=(0, 255))
        viewer.dims.order = order
        viewer.dims.set_current_step(order[0], 2)
        cut = cut_in_view(viewer, image)
        shown = values.transpose(order)[2]
        np.testing.assert_array_equal(grey_of(viewer, image, cut), shown.astype(np.uint8))
        assert cut.size == pytest.approx(
            [size * image.scale[axis] for size, axis in zip(shown.shape, order[1:], strict=True)]
        )

    def test_of_an_image_with_channels_the_one_in_view(self):
        viewer = ViewerModel()
        values = np.stack([np.full((2, 3, 4), 10.0), np.full((2, 3, 4), 20.0)])
        image = viewer.add_image(values, metadata={"medattn": {"spatial_dims": 3}}, contrast_limits=(0, 255))
        viewer.dims.set_current_step(0, 1)
        assert (grey_of(viewer, image, cut_in_view(viewer, image)) == 20).all()

    def test_of_a_coloured_image_the_mean(self):
        viewer = ViewerModel()
        values = np.zeros((3, 4, 3), np.uint8)
        values[..., 0] = 90
        image = viewer.add_image(values, rgb=True)
        assert (grey_of(viewer, image, cut_in_view(viewer, image)) == 30).all()

    def test_there_is_none_in_3d(self):
        viewer = ViewerModel()
        image = viewer.add_image(np.zeros((4, 5, 6)))
        viewer.dims.ndisplay = 3
        assert cut_in_view(viewer, image) is None

    def test_outlines_are_the_outermost_voxels_of_a_class(self):
        viewer = ViewerModel()
        image = viewer.add_image(np.zeros((1, 5, 5)))
        labels = np.zeros((1, 5, 5), int)
        labels[0, 1:4, 1:4] = 9  # the ninth class has the first one's colour
        found = outline_of(viewer.add_labels(labels), cut_in_view(viewer, image))
        ring = np.zeros((5, 5), int)
        ring[1:4, 1:4] = 1
        ring[2, 2] = 0
        np.testing.assert_array_equal(found, ring)

    def test_what_is_unknown_is_clear(self):
        values = np.array([[np.nan, 0.0, 1.0]], np.float32)
        assert to_bytes(values, (0.0, 1.0)).tolist() == [[0, 0, 255]]
        assert to_bytes(values, (-1.0, 1.0)).tolist() == [[127, 127, 255]]


class TestWall:
    def test_every_head_is_shown_with_the_same_limits(self, wall):
        assert len(pictures(wall)) == 8
        for head, shown in enumerate(pictures(wall)):
            np.testing.assert_array_equal(shown, expected(wall, head))
        assert wall.grid.bar.levels() == pytest.approx(wall._limits)

    def test_it_follows_the_slices_with_the_same_limits(self, wall, qtbot):
        limits, before = wall._limits, pictures(wall)[0].copy()
        wall.viewer.dims.set_current_step(0, 3)
        qtbot.waitUntil(lambda: wall.live.frame == 3 and not np.array_equal(pictures(wall)[0], before))
        wait_until_drawn(wall, qtbot)
        assert wall._limits == limits
        np.testing.assert_array_equal(pictures(wall)[5], expected(wall, 5))

    def test_a_click_on_a_head_shows_it_in_the_viewer(self, wall, axial):
        wall.grid.clicked.emit(4)
        assert axial.look.live.head == 4
        assert wall.grid.chosen == 4

    def test_arrow_keys_go_from_head_to_head(self, wall, axial, qtbot):
        wall.grid.choose(2)
        qtbot.keyClick(wall.grid, Qt.Key.Key_Right)
        assert axial.look.live.head == 3

    def test_layers_of_the_viewer_are_left_alone(self, wall, axial, viewer, qtbot):
        before = list(viewer.layers)
        wall.choose(LOCAL, 1)
        wait_until_drawn(wall, qtbot)
        assert list(viewer.layers) == before
        assert not viewer.canvas.grid.enabled

    def test_a_site_is_fed_as_long_as_the_wall_is_open(self, wall, axial, qtbot):
        wall.choose(LOCAL, None)
        assert axial.look.live.also == {LOCAL}
        wait_until_drawn(wall, qtbot)
        assert axial.look.live.ticked() == [COLUMNS]
        wall.parentWidget().hide()
        assert axial.look.live.also == set()

    def test_a_voxel_that_is_asked_is_answered_by_every_head(self, wall, axial, qtbot):
        axial.look.asking.turn(True)
        at = (float(wall.live.frame), 20.0, 30.0)
        axial.look.asking.point(at)
        qtbot.waitUntil(lambda: COLUMNS in wall.live.answers, timeout=PATIENCE)
        wait_until_drawn(wall, qtbot)
        for shown in pictures(wall):
            seen = np.flatnonzero(shown.max(axis=0) > 0)
            assert seen.size
            assert abs(seen - 30).max() <= 2  # a column of the grid with 2 voxels a step

    def test_a_voxel_is_answered_within_the_move_of_the_mouse(self, wall, axial, qtbot):
        asking, frame = axial.look.asking, float(wall.live.frame)
        asking.turn(True)
        asking.point((frame, 20.0, 30.0))
        qtbot.waitUntil(lambda: COLUMNS in wall.live.answers and not asking._pace.isActive(), timeout=PATIENCE)
        asking.point((frame, 20.0, 12.0))
        assert wall.live.answers[COLUMNS].spot.position[1:] == (20, 12)
        asking.point((frame, 20.0, 40.0))  # too soon for a question of its own
        asking.point((frame, 20.0, 8.0))
        assert wall.live.answers[COLUMNS].spot.position[1:] == (20, 12)
        qtbot.waitUntil(lambda: wall.live.answers[COLUMNS].spot.position[1:] == (20, 8), timeout=PATIENCE)

    def test_outlines_come_with_the_mask(self, wall, axial, qtbot):
        segment(axial, qtbot)
        wait_until_drawn(wall, qtbot)
        mask = axial.session.case.mask
        labels = mask.data[wall.live.frame]
        outline = wall.grid.layers[0][2].image
        assert outline.any() == (labels > 0).any()
        assert set(np.unique(outline)) - {0} <= set(np.unique(labels))

    def test_in_3d_it_says_what_it_needs(self, wall, qtbot):
        wall.viewer.dims.ndisplay = 3
        qtbot.waitUntil(lambda: "2-D" in wall.said.text())
        assert not wall.grid.isVisible()

    def test_pictures_of_another_site_fill_their_place_at_once(self, wall, qtbot):
        wall.choose(LOCAL, None)
        wait_until_drawn(wall, qtbot)
        tall, wide = wall.grid._size
        for box, images in zip(wall.grid.boxes, wall.grid.layers, strict=True):
            for image in images[:2]:
                place = box.mapFromItemToView(image, image.boundingRect()).boundingRect()
                assert (place.height(), place.width()) == pytest.approx((tall, wide))
            (left, right), (top, bottom) = box.viewRange()
            assert right - left >= wide
            assert bottom - top >= tall


class TestChannels:
    def test_the_matrix_is_the_slices_in_multiples_of_an_even_share(self, channels):
        site, atlas = channels.chosen, channels.live.atlas
        matrix = atlas.matrix(channels.live.frame, site.key)
        assert matrix.shape == (site.heads, site.channels, site.channels)
        np.testing.assert_allclose(channels.plots.image.image, matrix.mean(axis=0) * site.channels, rtol=1e-6)
        np.testing.assert_allclose(channels.plots.image.image.mean(axis=1), 1, rtol=1e-3)

    def test_one_head_can_be_chosen(self, channels):
        channels.head.setCurrentIndex(2)
        site = channels.chosen
        matrix = channels.live.atlas.matrix(channels.live.frame, site.key)[1]
        np.testing.assert_allclose(channels.plots.image.image, matrix * site.channels, rtol=1e-6)

    def test_bars_are_what_each_channel_receives(self, channels):
        received = channels.plots.image.image.mean(axis=0)
        np.testing.assert_allclose(channels.plots.received.opts["height"], received)
        channels.plots.sorted.setChecked(True)
        np.testing.assert_allclose(channels.plots.received.opts["height"], np.sort(received)[::-1])

    def test_its_site_is_fed_as_long_as_it_is_open(self, channels):
        assert channels.live.also == {channels.chosen.key}
        channels.parentWidget().hide()
        assert channels.live.also == set()

    def test_without_channels_and_gates_it_says_so(self, dock):
        tool = dock.look.open_tool("Channels, gates", "channels", "ChannelsTool")
        assert tool.said.text() == "phantom has neither channel attention nor position gates."
        assert not tool.plots.isVisible()
        assert not tool.gates.isVisible()


class TestGates:
    def test_they_are_those_of_the_checkpoint_by_branch(self, axial):
        tool = axial.look.open_tool("Channels, gates", "channels", "ChannelsTool")
        gates = position_gates(load_checkpoint("medt").build())
        chart = tool.gates
        assert len(gates) == 6 + 16
        shown = {symbol: mark.getData() for symbol, mark in chart.marks.items()}
        for symbol, (values, _) in shown.items():
            np.testing.assert_allclose(values, [some[symbol] for some in gates.values()])
        _, lines = shown["G_Q"]
        assert chart.rows[0] == "GLOBAL BRANCH"
        assert chart.rows[7] == "LOCAL BRANCH"
        assert {chart.rows[int(line)] for line in lines[:2]} == {"stage 1 block 1 columns", "stage 1 block 1 rows"}
        assert not chart.note.isVisible()


class TestBorders:
    def test_one_layer_comes_with_the_first_local_site_and_goes_with_the_last(self, axial, viewer, qtbot):
        tick(axial, COLUMNS)
        wait_for_maps(axial, 1, qtbot)
        assert axial.look.borders.layer is None
        tick(axial, LOCAL)
        tick(axial, LOCAL_ROWS)
        wait_for_maps(axial, 3, qtbot)
        layer = axial.look.borders.layer
        assert layer.name == f"{axial.session.image.name} patch borders"
        assert [other for other in viewer.layers if isinstance(other, Vectors)] == [layer]
        tick(axial, LOCAL, False)
        assert layer in viewer.layers
        tick(axial, LOCAL_ROWS, False)
        qtbot.waitUntil(lambda: layer not in viewer.layers)

    def test_lines_lie_on_the_slice_in_view(self, axial, viewer, qtbot):
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        layer, image = axial.look.borders.layer, axial.session.image
        np.testing.assert_allclose(layer.scale, image.scale)
        np.testing.assert_allclose(layer.translate, image.translate)
        for step in (4, 9):
            viewer.dims.set_current_step(0, step)
            assert {float(start[0]) for start in layer.data[:, 0]} == {float(step)}

    def test_the_scan_stays_selected(self, axial, viewer, qtbot):
        viewer.layers.selection.active = axial.session.image
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        assert viewer.layers.selection.active == axial.session.image

    def test_deleting_the_layer_does_no_harm(self, axial, viewer, qtbot):
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        viewer.layers.remove(axial.look.borders.layer)
        viewer.dims.set_current_step(0, 5)
        tick(axial, LOCAL, False)
        assert axial.look.borders.layer is None

    def test_they_go_with_the_scan(self, axial, viewer, qtbot):
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        layer = axial.look.borders.layer
        viewer.layers.remove(axial.session.image)
        qtbot.waitUntil(lambda: layer not in viewer.layers)
