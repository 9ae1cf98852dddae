"""The Save window in a real napari, and napari's own File > Save for maps."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QListWidget

from napari_medattn.contributions import write_map
from napari_medattn.data import Preparation, read_volume
from napari_medattn.errors import InputError
from napari_medattn.layerdata import map_to_layer
from napari_medattn.look import attention_maps
from napari_medattn.models import AttentionSite, create_model
from napari_medattn.store import Card, save_checkpoint
from napari_medattn.widgets.look.saving import slice_in_view
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment

GATE = "skip2.gate1"
ROWS = "layer1.0.row_attention"


def open_save(dock):
    return dock.look.open_tool("Save ...", "save", "SaveTool")


def wait(tool, qtbot) -> str:
    """Wait until the window is done; gives what it says."""
    qtbot.waitUntil(lambda: tool.work._job is None, timeout=PATIENCE)
    return tool.work.message.text


@pytest.fixture
def tool(dock, tmp_path):
    """The window on a scan and a network of gates, one of them ticked."""
    made = open_save(dock)
    made.folder.setText(str(tmp_path / "maps"))
    made.offer([GATE])
    return made


@pytest.fixture
def asking(viewer, scan, qtbot, tmp_path):
    """The window on a network that can be asked, never trained."""
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "variant": "small", "image_size": 32}
    card = Card("axial", "gated_axial_unet", arguments, ("background", "a"), Preparation(), (1, 32, 32))
    save_checkpoint(card, create_model("gated_axial_unet", **arguments))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "axial", qtbot)
    made = open_save(dock)
    made.folder.setText(str(tmp_path / "maps"))
    made.offer([ROWS])
    return made


class TestChoosing:
    def test_what_look_shows_is_ticked(self, dock):
        dock.look.show_site(GATE)
        assert open_save(dock).keys == [GATE]

    def test_the_chosen_site_is_ticked_where_none_is(self, tool):
        tool.offer([])
        tool.choose("skip3.gate1", None)
        assert tool.keys == ["skip3.gate1"]
        tool.choose(GATE, None)
        assert tool.keys == ["skip3.gate1"]

    def test_the_shown_head_is_taken_over(self, asking):
        asking.choose(ROWS, 3)
        assert asking.heads.currentText() == "head 4"
        asking.choose(ROWS, None)
        assert asking.heads.currentData() == "mean"

    def test_nothing_ticked_cannot_be_saved(self, tool):
        tool.offer([])
        assert not tool.run.isEnabled()
        assert "Tick the sites" in tool.work.message.text

    def test_it_saves_beside_the_scan_at_first(self, dock, scan):
        assert open_save(dock).folder.text() == str(scan.parent / "attention")

    def test_every_control_has_a_name_and_a_tooltip(self, tool):
        kinds = (QAbstractButton, QComboBox, QLineEdit, QListWidget)
        controls = [made for kind in kinds for made in tool.findChildren(kind) if made.objectName()[:3] != "qt_"]
        assert len(controls) > 10
        for made in controls:
            if made is tool.work.message.details:
                continue
            assert made.accessibleName() or getattr(made, "text", lambda: "")(), made
            assert made.toolTip(), made

    def test_it_fits(self, tool):
        assert tool.minimumSizeHint().width() <= 420


class TestSaving:
    def test_maps_are_those_of_python_on_the_scans_affine(self, tool, scan, qtbot):
        tool.save()
        assert "Saved" in wait(tool, qtbot)
        (path,) = (Path(tool.folder.text())).glob("*.nii.gz")
        assert nib.load(path).affine.tobytes() == nib.load(scan).affine.tobytes()
        found = attention_maps(read_volume(scan), "phantom", [GATE])[0]
        z, y, x = (slice(0, size) for size in found.source.grid.shape)
        np.testing.assert_allclose(np.asarray(nib.load(path).dataobj).T, found.draw((z, y, x))[0], atol=1e-5)

    def test_a_voxels_own_attention(self, asking, qtbot):
        asking.show_what.setCurrentIndex(1)
        asking.voxel.setText("5, 12, 9")
        asking.save()
        wait(asking, qtbot)
        (card,) = Path(asking.folder.text()).glob("*query-5-12-9*.json")
        assert json.loads(card.read_text())["query"]["voxel_zyx"] == [5, 12, 9]

    def test_a_gates_voxel_is_refused_in_words(self, tool, qtbot):
        tool.show_what.setCurrentIndex(1)
        tool.save()
        assert "is a gate" in wait(tool, qtbot)
        assert not Path(tool.folder.text()).exists()

    def test_a_line_that_is_no_voxel(self, asking):
        asking.show_what.setCurrentIndex(1)
        asking.voxel.setText("here")
        asking.save()
        assert "'here' is no voxel" in asking.work.message.text
        assert not asking.work.running

    def test_files_are_replaced_only_when_asked(self, tool, qtbot):
        tool.save()
        wait(tool, qtbot)
        tool.save()
        assert "exists already" in wait(tool, qtbot)
        tool.replace.setChecked(True)
        tool.save()
        assert "Saved" in wait(tool, qtbot)

    def test_cancel_leaves_nothing(self, asking, qtbot):
        asking.save()
        asking.stop.click()
        assert "Cancelled" in wait(asking, qtbot)
        folder = Path(asking.folder.text())
        assert not folder.exists() or list(folder.iterdir()) == []


class TestPictures:
    @pytest.mark.parametrize("way", ["save_sheet", "save_figure"])
    def test_they_are_drawn(self, tool, qtbot, tmp_path, way):
        getattr(tool, way)(tmp_path / "drawn.png")
        assert "Saved" in wait(tool, qtbot)
        with Picture.open(tmp_path / "drawn.png") as image:
            assert np.asarray(image.convert("L")).std() > 20

    def test_the_figure_is_of_the_slice_in_view(self, dock, tool, viewer):
        viewer.dims.set_current_step(0, 7)
        box = slice_in_view(dock.session.case)
        assert (box[0].start, box[0].stop) == (7, 8)
        viewer.dims.order = (1, 0, 2)
        viewer.dims.set_current_step(1, 9)
        box = slice_in_view(dock.session.case)
        assert (box[1].start, box[1].stop) == (9, 10)

    def test_in_3d_it_is_of_the_z_slider(self, dock, tool, viewer):
        viewer.dims.set_current_step(0, 7)
        viewer.dims.ndisplay = 3
        assert slice_in_view(dock.session.case)[0] == slice(7, 8)

    def test_the_mask_is_the_persons_own_as_it_is_now(self, dock, tool, qtbot):
        segment(dock, qtbot)
        voxel = (np.array([3]), np.array([4]), np.array([5]))
        dock.session.case.mask.data_setitem(voxel, 2)
        order = tool._order()
        dock.session.case.mask.data_setitem(voxel, 1)
        assert order.mask[voxel] == 2


class TestNaparisOwnSave:
    """File > Save with one of our maps."""

    SITE = AttentionSite("a.gate", ("a", "gate"), "gate", (1, 1, 1))

    def put(self, viewer, scan, values):
        (image,) = viewer.open(str(scan), plugin=PLUGIN)
        data, options, _ = map_to_layer(self.SITE, values, image, {"image": image.name}, (0.0, 1.0))
        return viewer.add_image(data, **options)

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_a_map_keeps_the_scans_geometry(self, viewer, scan, tmp_path, ending):
        values = np.random.default_rng(0).random((32, 48, 48)).astype(np.float32)
        layer = self.put(viewer, scan, values)
        path = tmp_path / f"map{ending}"
        assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
        saved, source = nib.load(path), nib.load(scan)
        np.testing.assert_array_equal(np.asarray(saved.dataobj).T, values)
        for field in ("srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "pixdim", "quatern_b", "qoffset_x"):
            assert saved.header[field].tobytes() == source.header[field].tobytes(), field

    def test_what_was_made_only_in_part_is_not_saved_as_if_it_were_whole(self, viewer, scan, tmp_path):
        values = np.zeros((32, 48, 48), np.float32)
        values[20] = np.nan
        layer = self.put(viewer, scan, values)
        with pytest.raises(InputError, match="made only in part"):
            write_map(str(tmp_path / "map.nii"), *layer.as_layer_data_tuple()[:2])
        assert not (tmp_path / "map.nii").exists()

    def test_colours_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="no image of one channel"):
            write_map(str(tmp_path / "map.nii"), np.zeros((4, 5, 3), np.uint8), {"name": "photo", "rgb": True})
