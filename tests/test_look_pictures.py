"""Figures and contact sheets: the right side up, the right size, and not blank."""

import json
import re
from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_medattn.data import Volume
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.geometry import Grid
from napari_medattn.look import attention_figure, attention_maps, contact_sheet
from napari_medattn.look.picture import round_length, wrap
from napari_medattn.look.plane import Plane, best_slice
from napari_medattn.look.sheet import spread_slices
from napari_medattn.palette import class_colour
from tests.test_look_export import AFFINES, axial, dae, scan, unet

LABELS = np.zeros((10, 21, 26), np.uint8)
LABELS[3:7, 6:14, 8:18] = 1
LABELS[5, 15:19, 4:20] = 2
NAMES = ("background", "liver", "spleen")


@pytest.fixture(scope="module")
def maps():
    return attention_maps(scan(np.diag([1.0, 1.0, 2.0, 1.0])), unet())


def pixels(path) -> np.ndarray:
    """(rows, columns, 3) in 0..255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def draw(maps, path, **options) -> Plane:
    """A figure with few pixels, which is quicker."""
    return attention_figure(maps, path, **{"dpi": 80, **options})


def pixels_of(path, colour: str) -> int:
    """How many pixels have nearly a colour."""
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(pixels(path) - wanted).max(axis=-1) < 12).sum())


def panels_across(image) -> int:
    """How many panels lie side by side, counted in the row of pixels that crosses most of them."""
    dark = (image < 250).any(axis=-1)
    row = dark[dark.sum(axis=1).argmax()]
    return int((np.diff(row.astype(int), prepend=0) > 0).sum())


def placed_volume(codes: str, spacing=(1.0, 1.0, 1.0)) -> Volume:
    """A volume of 4 x 5 x 6 whose x, y, z axes run to ``codes``, with the voxel's world place as its values."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, code in enumerate(codes):
        world, sign = directions[code]
        affine[world, column] = sign * spacing[column]
    affine[:3, 3] = 7.5
    index = np.stack(np.meshgrid(np.arange(6), np.arange(5), np.arange(4), indexing="ij"), axis=-1)[..., ::-1]
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume(np.moveaxis(world, -1, 0).astype(np.float32), Grid((6, 5, 4), affine), header=nib.Nifti1Header())


ORIENTATIONS = [
    "".join(pair[at] for pair, at in zip(axes, signs, strict=True))
    for axes in permutations(("RL", "AP", "SI"))
    for signs in product((0, 1), repeat=3)
]


class TestPlane:
    @pytest.mark.parametrize("codes", ORIENTATIONS)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_it_lies_the_way_radiologists_look(self, codes, axis):
        """Right on the left; anterior on top; superior on top; without right and left, anterior on the left."""
        volume = placed_volume(codes)
        plane = Plane.of(volume, axis, 2)
        x, y, z = (plane.turn(world) for world in volume.array[(slice(None), *plane.box)])
        normal = codes[2 - axis]
        if normal in "SI":
            across, down = -x, -y
        elif normal in "AP":
            across, down = -x, -z
        else:
            across, down = -y, -z
        assert (np.diff(across, axis=1) > 0).all()
        assert (np.diff(down, axis=0) > 0).all()
        expected = {"S": "RLAP", "I": "RLAP", "A": "RLSI", "P": "RLSI", "R": "APSI", "L": "APSI"}[normal]
        assert "".join(plane.letters) == expected

    def test_an_oblique_slice_names_two_directions(self):
        turn = nib.eulerangles.euler2mat(np.radians(40))
        grid = Grid((4, 5, 6), nib.affines.from_matvec(turn))
        assert Plane.of(Volume(np.zeros((1, 4, 5, 6)), grid), 0, 1).letters == ("RA", "LP", "AL", "PR")

    def test_a_slight_tilt_does_not(self):
        grid = Grid((4, 5, 6), nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.1, 0.1)))
        assert Plane.of(Volume(np.zeros((1, 4, 5, 6)), grid), 0, 1).letters == ("R", "L", "A", "P")

    def test_an_image_that_says_nothing_of_orientation_is_shown_as_stored(self):
        volume = Volume(np.arange(60.0).reshape(1, 3, 4, 5), Grid.from_spacing((3, 4, 5), (2, 1, 1)))
        plane = Plane.of(volume, 0, 1)
        assert plane.letters == ("", "", "", "")
        np.testing.assert_array_equal(plane.image(), volume.array[0, 1])

    def test_its_size_is_in_mm(self):
        plane = Plane.of(placed_volume("RAS", (0.5, 2.0, 3.0)), 0, 2)
        assert plane.size == pytest.approx((5 * 2.0, 4 * 0.5))

    @pytest.mark.parametrize("codes", ["RAS", "LPI", "SRA", "IPL"])
    def test_a_voxel_is_found_where_it_is_shown(self, codes):
        volume = placed_volume(codes)
        plane = Plane.of(volume, 1, 3)
        row, column = plane.find((4, 3, 1))
        assert plane.turn(volume.array[0][plane.box])[row, column] == volume.array[0, 4, 3, 1]
        assert plane.find((4, 2, 1)) is None

    def test_a_slice_that_is_not_there(self):
        with pytest.raises(InputError, match=r"no slice 6 along z\. Its slices there are 0 to 5"):
            Plane.of(placed_volume("RAS"), 0, 6)

    def test_the_fullest_slice_is_the_best(self):
        assert best_slice(LABELS, scan()) == 5
        assert best_slice(None, scan()) == 5
        assert best_slice(LABELS, scan(), axis=1) == int(LABELS.astype(bool).sum(axis=(0, 2)).argmax())


class TestPieces:
    @pytest.mark.parametrize(("most", "length"), [(7.0, 5), (5.0, 5), (4.9, 2), (23, 20), (0.13, 0.1), (1.0, 1)])
    def test_scale_bars_have_round_lengths(self, most, length):
        assert round_length(most) == pytest.approx(length)

    def test_text_is_wrapped_at_words(self):
        assert wrap("global branch stage 1", 20) == ["global branch", "stage 1"]


class TestFigure:
    def test_it_is_as_wide_as_asked_in_print(self, maps, tmp_path):
        attention_figure(maps, tmp_path / "f.png", labels=LABELS, class_names=NAMES, width=89)
        assert pixels(tmp_path / "f.png").shape[1] == pytest.approx(89 / 25.4 * 300, abs=2)

    def test_it_is_not_blank(self, maps, tmp_path):
        draw(maps, tmp_path / "f.png", labels=LABELS, class_names=NAMES)
        assert pixels(tmp_path / "f.png").std() > 30

    def test_it_shows_the_fullest_slice(self, maps, tmp_path):
        assert draw(maps, tmp_path / "f.png", labels=LABELS).index == 5

    def test_outlines_are_seen_on_the_maps(self, maps, tmp_path):
        draw(maps, tmp_path / "with.png", labels=LABELS, class_names=NAMES, dpi=200)
        draw(maps, tmp_path / "without.png", index=5, dpi=200)
        for number in (1, 2):
            colour = class_colour(number)
            assert pixels_of(tmp_path / "with.png", colour) > pixels_of(tmp_path / "without.png", colour) + 300

    def test_a_map_that_is_zero_leaves_the_image_as_it_is(self, maps, tmp_path):
        """And one that is high everywhere covers it."""
        heights = {}
        for value in (0, 1):
            made = [replace(maps[0], values=np.full_like(maps[0].values, value))]
            draw(made, tmp_path / f"{value}.png", index=5)
            image = pixels(tmp_path / f"{value}.png")
            heights[value] = (image.max(axis=-1) - image.min(axis=-1) > 60).mean()  # how much of it has a colour
        assert heights[1] > heights[0] + 0.2

    def test_a_pdf_embeds_its_fonts(self, maps, tmp_path):
        draw(maps, tmp_path / "f.pdf", labels=LABELS, class_names=NAMES)
        content = (tmp_path / "f.pdf").read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content

    def test_an_svg_draws_its_letters(self, maps, tmp_path):
        draw(maps, tmp_path / "f.svg", labels=LABELS)
        content = (tmp_path / "f.svg").read_text()
        assert "<image" in content
        assert "<text" not in content

    def test_the_cards_are_inside(self, maps, tmp_path):
        draw(maps, tmp_path / "f.png")
        with Image.open(tmp_path / "f.png") as image:
            said = json.loads(image.text["Description"])
        assert said["note"] == "Attention is where the block looks, not why."
        assert [card["site"]["key"] for card in said["maps"]] == [found.site.key for found in maps]

    def test_all_heads_get_a_panel_each(self, tmp_path):
        found = attention_maps(scan(), axial(), ["layer1.0.row_attention"], heads="all")
        draw(found, tmp_path / "all.png", index=5)
        draw([found[0].one(0)], tmp_path / "one.png", index=5)
        rows = [panels_across(pixels(tmp_path / name)) for name in ("all.png", "one.png")]
        assert rows == [5, 2]  # nine panels in two rows, two in one

    def test_a_question_is_drawn_on_its_slice(self, tmp_path):
        found = attention_maps(scan(), axial(), ["layer1.0.row_attention"], query=(4, 11, 7))
        assert draw(found, tmp_path / "f.png").index == 4

    def test_and_on_no_other(self, tmp_path):
        found = attention_maps(scan(), axial(), ["layer1.0.row_attention"], query=(4, 11, 7))
        with pytest.raises(InputError, match="is not known on slice 0 of scan"):
            draw(found, tmp_path / "f.png", index=0)
        assert not (tmp_path / "f.png").exists()

    def test_a_dollar_in_a_name_is_no_formula(self, tmp_path):
        found = attention_maps(replace(scan(), name="a $x_ b$ $"), unet(), ["skip2.gate1"])
        draw(found, tmp_path / "f.png")
        assert (tmp_path / "f.png").exists()

    def test_a_slice_of_the_mask_is_enough(self, maps, tmp_path):
        draw(maps, tmp_path / "part.png", labels=LABELS[5:6], index=5)
        draw(maps, tmp_path / "whole.png", labels=LABELS, index=5)
        np.testing.assert_array_equal(pixels(tmp_path / "part.png"), pixels(tmp_path / "whole.png"))

    def test_a_mask_of_another_image_is_refused(self, maps, tmp_path):
        with pytest.raises(GeometryError, match="mask of this image"):
            draw(maps, tmp_path / "f.png", labels=LABELS[:, :4], index=5)

    def test_an_unknown_suffix_is_refused(self, maps, tmp_path):
        with pytest.raises(InputError, match=r"f.jpg .*\.png, \.pdf, \.svg"):
            draw(maps, tmp_path / "f.jpg")

    def test_channel_attention_alone_cannot_be_drawn(self, tmp_path):
        with pytest.raises(InputError, match="no map with a place"):
            draw(attention_maps(scan(), dae(), ["encode3.block1.channel"]), tmp_path / "f.png")


class TestContactSheet:
    def test_it_has_a_line_per_map_and_one_for_the_mask(self, maps, tmp_path):
        heights = []
        for count in (1, 2, 3):
            contact_sheet(maps[:count], tmp_path / "s.png", labels=LABELS)
            heights.append(len(pixels(tmp_path / "s.png")))
        assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=1)
        assert pixels(tmp_path / "s.png").std() > 30

    def test_a_pdf_has_pages(self, tmp_path):
        found = attention_maps(scan(AFFINES["anisotropic"]), axial(), ["layer1.0.row_attention"], heads="all")
        contact_sheet(found, tmp_path / "s.pdf", labels=LABELS, columns=2)
        content = (tmp_path / "s.pdf").read_bytes()
        assert len(re.findall(rb"/Type /Page\b", content)) > 1
        assert b"where the block looks, not why" in content

    def test_what_has_no_place_is_left_out(self, tmp_path):
        found = attention_maps(scan(), dae(), ["encode1.block1.efficient", "encode3.block1.channel"])
        contact_sheet(found, tmp_path / "both.png")
        contact_sheet(found[:1], tmp_path / "one.png")
        np.testing.assert_array_equal(pixels(tmp_path / "both.png"), pixels(tmp_path / "one.png"))

    def test_too_many_lines_for_one_picture_are_refused(self, maps, tmp_path):
        with pytest.raises(InputError, match="Save a PDF, which has pages"):
            contact_sheet(maps * 100, tmp_path / "s.png", labels=LABELS)

    def test_it_draws_no_more_than_slices(self, maps, tmp_path, monkeypatch):
        boxes = []
        draw = type(maps[0]).draw
        monkeypatch.setattr(type(maps[0]), "draw", lambda self, box: boxes.append(box) or draw(self, box))
        contact_sheet(maps, tmp_path / "s.png", labels=LABELS)
        assert boxes
        assert {box[0].stop - box[0].start for box in boxes} == {1}

    def test_a_mask_of_another_image_is_refused(self, maps, tmp_path):
        with pytest.raises(GeometryError, match="mask of this image"):
            contact_sheet(maps, tmp_path / "s.png", labels=LABELS[:4])

    def test_slices_are_spread_over_the_foreground(self):
        assert spread_slices(LABELS, 2) == [4, 5]
        assert spread_slices(LABELS, 9) == [3, 4, 5, 6]
        assert spread_slices(np.zeros((4, 2, 2)), 9) == [0, 1, 2, 3]
        assert spread_slices(LABELS, 20, axis=1) == [*range(6, 14), *range(15, 19)]
