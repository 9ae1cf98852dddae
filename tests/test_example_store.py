"""What a person taught is kept: whole or not at all, once, and without names of people or files."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from napari_medattn.data import Example, Volume
from napari_medattn.errors import ExampleError, InputError, SaveError
from napari_medattn.geometry import Grid
from napari_medattn.layerdata import volume_to_layer
from napari_medattn.store import example_entry
from napari_medattn.store.example_entry import Entry
from napari_medattn.store.examples import ExampleStore, held_out
from napari_medattn.store.leftovers import sweep_leftovers
from napari_medattn.store.scan_id import scan_id

NAMES = ("background", "left", "right")
SHAPE = (3, 4, 5)
AFFINE = np.array([[-0.9, 0.1, 0, 7], [0.1, 0.9, 0, -3], [0, 0, 2.5, 1.25], [0, 0, 0, 1.0]])


def volume(seed: int = 0, shape=SHAPE, channels: int = 1, dtype="int16") -> Volume:
    values = np.random.default_rng(seed).integers(-100, 100, (channels, *shape)).astype(dtype)
    return Volume(values, Grid(shape, AFFINE), name="Doe_Jane_1970", path=Path("/home/doe/Doe_Jane_1970.nii"))


def example(seed: int = 0, labels: int = 1, **changes) -> Example:
    weights = np.zeros(SHAPE, bool)
    weights[1, :, 2:] = True
    return replace(Example(volume(seed), np.full(SHAPE, labels), weights, NAMES), **changes)


@pytest.fixture
def store(tmp_path) -> ExampleStore:
    return ExampleStore(tmp_path / "examples")


def same(one: Example, other: Example) -> bool:
    weights = [np.ones(e.labels.shape) if e.weights is None else e.weights for e in (one, other)]
    return (
        np.array_equal(one.volume.array, other.volume.array)
        and one.volume.array.dtype == other.volume.array.dtype
        and np.array_equal(one.volume.grid.affine, other.volume.grid.affine)
        and one.volume.grid.oriented == other.volume.grid.oriented
        and np.array_equal(one.labels, other.labels)
        and np.array_equal(*weights)
        and (one.class_names, one.modality) == (other.class_names, other.modality)
    )


class TestRoundTrip:
    def test_an_image_that_says_nothing_of_right_and_left_says_no_more_later(self, store):
        given = example(volume=replace(volume(), grid=Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))))
        assert same(store.load(store.add(given)), given)

    def test_of_images_kept_before_that_was_asked_it_is_told_by_their_affine(self, store, monkeypatch):
        whole = example_entry.image_card
        monkeypatch.setattr(
            "napari_medattn.store.examples.image_card", lambda v: {k: x for k, x in whole(v).items() if k != "oriented"}
        )
        plain = Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))
        for grid in (plain, Grid(SHAPE, AFFINE)):
            entry = store.add(example(volume=replace(volume(), grid=grid)))
            assert store.load(entry).volume.grid.oriented == grid.oriented

    def test_an_example_comes_back_as_it_was(self, store):
        given = example(modality="MR")
        assert same(store.load(store.add(given)), given)

    def test_another_window_finds_it(self, store):
        entry = store.add(example())
        assert ExampleStore(store.folder).entries() == [entry]

    @given(
        labels=arrays(np.int32, (2, 3, 4), elements=st.integers(0, 2)),
        weights=st.none() | arrays(np.float32, (2, 3, 4), elements=st.floats(0.125, 1, width=32)),
        dtype=st.sampled_from(["uint8", ">i2", "float32", "float64", "uint16"]),
        order=st.sampled_from("CF"),
    )
    def test_whatever_the_types(self, tmp_path, labels, weights, dtype, order):
        scan = volume(0, (2, 3, 4), 2, "uint8")
        scan = replace(scan, array=np.asarray(scan.array.astype(dtype), order=order))
        store = ExampleStore(tmp_path)
        got = store.load(store.add(Example(scan, labels, weights, NAMES)))
        assert np.array_equal(got.volume.array, scan.array)
        assert np.array_equal(got.labels, labels)
        assert weights is None or got.weights is None or np.array_equal(got.weights, weights)
        assert (got.weights is None) == (weights is None or bool((weights == 1).all()))

    def test_a_flat_image_stays_flat(self, store):
        flat = replace(volume(0, (1, 4, 5)), spatial_dims=2)
        entry = store.add(Example(flat, np.ones((1, 4, 5), int), None, NAMES))
        assert (entry.spatial_dims, store.load(entry).volume.spatial_dims) == (2, 2)

    def test_the_entry_tells_what_there_is_without_voxels(self, store):
        entry = store.add(example(modality="CT"))
        assert entry.counts == (0, 12, 0)
        assert (entry.counted, entry.slices, entry.channels, entry.shape) == (12, 1, 1, SHAPE)
        assert entry.spacing == pytest.approx(volume().grid.spacing)
        assert (entry.class_names, entry.modality) == (NAMES, "CT")

    def test_numpy_reads_the_files_too(self, store):
        entry = store.add(example())
        with np.load(entry.path) as found:
            assert np.array_equal(found["labels"], example().labels)

    def test_a_large_image_goes_in_parts(self, store, monkeypatch):
        monkeypatch.setattr("napari_medattn.store.array_file._CHUNK", 32)
        given = example(volume=volume(3))
        assert same(store.load(store.add(given)), given)
        assert len(list(store.add_steps(example(4)))) > 3


class TestNaming:
    def test_the_same_content_twice_is_one_entry(self, store):
        assert store.add(example()) == store.add(example())
        assert len(store.entries()) == 1

    @pytest.mark.parametrize(
        "change",
        [{"labels": np.full(SHAPE, 2)}, {"weights": None}, {"class_names": (*NAMES, "more")}, {"modality": "MR"}],
        ids=lambda change: next(iter(change)),
    )
    def test_other_content_of_the_scan_is_another_entry(self, store, change):
        first, second = store.add(example()), store.add(example(**change))
        assert first.name != second.name
        assert first.case == second.case

    def test_an_image_is_kept_once_however_many_examples_come(self, store):
        for label in range(3):
            store.add(example(labels=label))
        assert len(list((store.folder / "images").iterdir())) == 1

    def test_the_same_voxels_elsewhere_in_the_world_are_another_scan(self, store):
        affine = AFFINE.copy()
        affine[0, 3] += 0.5
        moved = replace(volume(), grid=Grid(SHAPE, affine))
        assert store.add(example()).case != store.add(example(volume=moved)).case

    def test_neither_the_type_of_labels_nor_of_weights_matters(self, store):
        wide = example(weights=example().weights.astype(float), labels=np.full(SHAPE, 1))
        narrow = replace(wide, weights=example().weights, labels=np.full(SHAPE, 1, np.uint8))
        assert store.add(wide).name == store.add(narrow).name

    def test_an_entry_is_found_by_the_beginning_of_its_name(self, store):
        entry = store.add(example())
        assert store.find(entry.name[:6]) == entry

    def test_an_unknown_name_is_refused(self, store):
        with pytest.raises(ExampleError, match="no example 'ff'"):
            store.find("ff")


class TestPrivacy:
    def test_no_name_of_a_person_or_file_is_in_it(self, store):
        header = {"descrip": "Doe_Jane"}
        scan = replace(volume(), header=header, notes=("read from /home/doe",))
        told = {"scan": "ab" * 16, "journal": "/home/doe/x.journal", "patient": "Doe", "path": "/home/doe"}
        store.add(example(volume=scan, provenance=told))
        for path in (p for p in store.folder.rglob("*") if p.is_file()):
            with np.load(path) as found:
                text = found["card.json"].decode()
            assert "doe" not in text.lower()

    def test_where_it_comes_from_is_kept(self, store):
        told = {
            "scan": "ab" * 16,
            "checkpoint": "phantom",
            "painted": np.int64(5),
            "confirmed": 7,
            "journal": "a.journal",
        }
        entry = store.add(example(provenance=told))
        assert store.load(entry).provenance == told
        assert entry.scan == "ab" * 16

    @pytest.mark.parametrize(
        ("shape", "channels", "dtype", "dims"),
        [(SHAPE, 1, "int16", 3), ((1, 4, 5), 1, "uint8", 2), ((1, 4, 5), 3, "uint8", 2), (SHAPE, 2, "float32", 3)],
        ids=["volume", "slice", "colours", "channels"],
    )
    def test_a_scan_is_known_by_the_name_that_its_layer_has(self, store, shape, channels, dtype, dims):
        scan = replace(volume(0, shape, channels, dtype), spatial_dims=dims)
        entry = store.add(Example(scan, np.ones(shape, int), None, NAMES))
        assert entry.scan == scan_id(volume_to_layer(scan)[0], scan.grid)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"class_names": ()}, "no class names"),
            ({"weights": np.zeros(SHAPE)}, "no voxel to learn from"),
            ({"labels": np.full(SHAPE, 3)}, "has the label 3, its classes are 0 to 2"),
            ({"labels": np.full(SHAPE, -1)}, "has the label -1"),
            ({"weights": np.full(SHAPE, np.nan)}, "weights"),
            ({"weights": np.full(SHAPE, -1.0)}, "weights"),
        ],
        ids=["no classes", "nothing counts", "no such class", "negative", "not a number", "negative weight"],
    )
    def test_what_nothing_can_be_learned_from(self, store, change, said):
        with pytest.raises(InputError, match=said):
            store.add(example(**change))
        assert store.entries() == []

    def test_labels_that_do_not_count_may_be_anything(self, store):
        labels = np.where(example().weights, 1, -7)
        assert np.array_equal(store.load(store.add(example(labels=labels))).labels, labels)


class TestWhichCounts:
    def test_the_newest_of_a_scan_supersedes_the_older(self, store):
        old, new = store.add(example(labels=1)), store.add(example(labels=2))
        assert store.latest() == [new]
        assert store.superseded(new) == [old]

    def test_other_scans_and_other_classes_do_not(self, store):
        entries = [store.add(one) for one in (example(), example(1), example(class_names=("a", "b")))]
        assert store.latest() == entries
        assert store.latest(NAMES) == entries[:2]

    def test_what_is_added_again_is_the_newest(self, store):
        first = store.add(example(labels=1))
        store.add(example(labels=2))
        store.add(example(labels=1))
        assert [entry.name for entry in store.latest()] == [first.name]

    def test_a_hidden_entry_is_left_out_and_an_older_one_counts_again(self, store):
        old, new = store.add(example(labels=1)), store.add(example(labels=2))
        assert store.hide(new).hidden
        assert store.latest() == [old]
        assert [entry.hidden for entry in ExampleStore(store.folder).entries()] == [False, True]

    def test_unhiding_brings_it_back(self, store):
        entry = store.add(example())
        store.unhide(store.hide(entry))
        assert store.latest() == [entry]

    def test_adding_a_hidden_one_again_brings_it_back(self, store):
        store.hide(store.add(example()))
        assert not store.add(example()).hidden

    def test_a_record_that_was_cut_off_spoils_neither_those_before_nor_after(self, store):
        first, second = store.add(example()), store.add(example(1))
        store.hide(first)
        with (store.folder / "records.jsonl").open("ab") as file:
            file.write(b'\n{"kind": "hid')
        store.hide(second)
        assert store.latest() == []


class TestCombined:
    def two(self, store) -> Entry:
        """First slice 0 is said to be 1, then slices 0 and 1, of which slice 0 to be 2."""
        first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        first[0], first[2] = True, True
        second[0], second[1] = True, True
        store.add(example(labels=np.ones(SHAPE, int), weights=first))
        return store.add(example(labels=np.full(SHAPE, 2), weights=second))

    def test_the_newest_is_followed_where_both_speak(self, store):
        both, _ = store.combined(self.two(store))
        assert (both.labels[0] == 2).all()

    def test_what_only_the_older_says_is_kept(self, store):
        both, _ = store.combined(self.two(store))
        assert (both.labels[2] == 1).all()
        assert both.counts().all()

    def test_the_contradicted_voxels_are_counted(self, store):
        assert store.combined(self.two(store))[1] == SHAPE[1] * SHAPE[2]

    def test_what_was_undone_in_the_same_journal_is_not_brought_back(self, store):
        first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        first[:2], second[0] = True, True
        for weights in (first, second):
            store.add(example(weights=weights, provenance={"journal": "a-1.journal"}))
        (newest,) = store.latest()
        both, _ = store.combined(newest)
        np.testing.assert_array_equal(both.counts(), second)

    def test_one_that_was_undone_is_not_brought_back_by_default(self, store):
        assert not store.load(self.two(store)).counts()[2].any()


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_cut_off_entry_is_listed_apart(self, store, share):
        whole, entry = store.add(example(1)), store.add(example())
        entry.path.write_bytes(entry.path.read_bytes()[: int(share * entry.path.stat().st_size)])
        problems: list[ExampleError] = []
        assert store.entries(problems) == [whole]
        assert [entry.name in str(problem) for problem in problems] == [True]

    def test_no_byte_can_change_unnoticed(self, store):
        entry = store.add(example())
        for path in (entry.path, store.folder / "images" / f"{entry.case}.npz"):
            before = path.read_bytes()
            for at in range(0, len(before), 7):
                changed = bytearray(before)
                changed[at] ^= 0x55
                path.write_bytes(changed)
                try:
                    assert same(ExampleStore(store.folder).load(entry), example()), at
                except ExampleError:
                    continue
            path.write_bytes(before)

    def test_the_others_work_on(self, store):
        whole, entry = store.add(example(1)), store.add(example())
        entry.path.write_bytes(b"PK nonsense")
        assert same(store.load(store.latest()[0]), example(1))
        assert store.latest() == [whole]

    def test_an_entry_whose_image_is_gone_is_listed_apart(self, store):
        entry = store.add(example())
        (store.folder / "images" / f"{entry.case}.npz").unlink()
        problems: list[ExampleError] = []
        assert store.entries(problems) == []
        assert "its image is gone" in str(problems[0])

    def test_a_damaged_one_is_named_when_asked_for(self, store):
        entry = store.add(example())
        entry.path.write_bytes(b"")
        with pytest.raises(ExampleError, match="cannot be read"):
            store.find(entry.name[:8])

    @pytest.mark.parametrize("which", ["entry", "image"])
    @pytest.mark.parametrize("how", ["cut off", "changed"])
    def test_adding_it_again_mends_it(self, store, which, how):
        kept = large(0)
        entry = store.add(kept)
        path = entry.path if which == "entry" else store.folder / "images" / f"{entry.case}.npz"
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        path.write_bytes(content[:half] if how == "cut off" else content[:half] + b"wrong" + content[half + 5 :])
        assert same(store.load(store.add(kept)), kept)

    def test_a_card_cannot_lead_out_of_the_folder(self, store):
        from napari_medattn.store.array_file import write_steps

        entry = store.add(example())
        card = {"case": "../../etc", "class_names": [], "counts": [], "slices": 0, "shape": [1, 1, 1], "date": ""}
        list(write_steps(entry.path, card | {"spacing": [1, 1, 1]}, {}))
        problems: list[ExampleError] = []
        assert ExampleStore(store.folder).entries(problems) == []
        assert len(problems) == 1

    def test_one_of_a_later_version_asks_for_an_update(self, store):
        from napari_medattn.store import array_file

        entry = store.add(example())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(array_file, "_LAYOUT", 2)
            list(array_file.write_steps(entry.path, {}, {}))
        problems: list[ExampleError] = []
        store.entries(problems)
        assert "Update napari-medattn" in str(problems[0])


class TestFullDisk:
    @staticmethod
    def full(monkeypatch, after: int = 0) -> None:
        """The disk takes so many files, then no more."""
        real, calls = os.fsync, []

        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        monkeypatch.setattr("os.fsync", fsync)

    @pytest.mark.parametrize("after", [0, 1], ids=["at the image", "at the example"])
    def test_nothing_is_listed(self, store, monkeypatch, after):
        self.full(monkeypatch, after)
        with pytest.raises(SaveError, match="no space left"):
            store.add(example())
        assert store.entries() == []
        assert not list(store.folder.rglob(".saving-*"))

    def test_it_can_be_added_when_there_is_space_again(self, store):
        with pytest.MonkeyPatch.context() as patch:
            self.full(patch, 1)
            with pytest.raises(SaveError):
                store.add(example())
        assert same(store.load(store.add(example())), example())

    def test_hiding_says_that_it_could_not_be_kept(self, store, monkeypatch):
        entry = store.add(example())
        self.full(monkeypatch)
        with pytest.raises(SaveError, match="no space left"):
            store.hide(entry)

    def test_a_disk_that_fills_up_while_writing(self, tmp_path):
        """The system itself refuses to let a file grow."""
        code = (
            "import resource, signal, sys\n"
            "import numpy as np\n"
            "from tests.test_example_store import *\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "store = ExampleStore(sys.argv[1])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
            "big = volume(0, (8, 32, 32))\n"
            "try:\n"
            "    store.add(Example(big, np.ones((8, 32, 32), int), None, NAMES))\n"
            "except SaveError as error:\n"
            "    print('refused', len(store.entries()), len(list(store.folder.rglob('.saving-*'))))\n"
        )
        if sys.platform == "win32":
            pytest.skip("needs limits of file sizes")
        ran = run(code, tmp_path / "examples")
        assert ran.stdout.split() == ["refused", "0", "0"], ran.stderr

    def test_what_was_left_half_written_long_ago_goes(self, store):
        store.add(example())
        old, new = store.folder / ".saving-old.npz", store.folder / ".saving-new.npz"
        for path in (old, new):
            path.write_bytes(b"half")
        os.utime(old, (time.time() - 10**6,) * 2)
        assert [len(store.entries()), sweep_leftovers(store.folder)] == [1, 1]
        assert new.exists()

    def test_leaving_early_adds_nothing(self, store):
        steps = store.add_steps(example())
        next(steps), next(steps)
        steps.close()
        assert store.entries() == []
        assert not list(store.folder.rglob(".saving-*"))


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)


def large(seed: int) -> Example:
    """One that takes a while to write."""
    shape = (8, 96, 96)
    labels = np.random.default_rng(seed).integers(0, 3, shape)
    return Example(volume(seed % 3, shape), labels, None, NAMES, modality=str(seed))


ADD = (
    "import sys\n"
    "from tests.test_example_store import *\n"
    "store, first, last = ExampleStore(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])\n"
    "print('ready', flush=True)\n"
    "for seed in range(first, last):\n"
    "    print(store.add(large(seed)).name, flush=True)\n"
)


class TestTwoWindows:
    def test_the_same_and_other_examples_at_once(self, store):
        with ThreadPoolExecutor(4) as windows:
            added = list(windows.map(lambda n: ExampleStore(store.folder).add(example(n % 3)), range(12)))
        assert {entry.name for entry in store.entries()} == {entry.name for entry in added}
        assert len(store.entries()) == 3
        assert all(same(store.load(entry), example(n % 3)) for n, entry in enumerate(added))

    def test_in_two_processes(self, store):
        command = [sys.executable, "-c", ADD, str(store.folder)]
        root = Path(__file__).parents[1]
        windows = [subprocess.Popen([*command, "0", str(4 + n)], cwd=root, stdout=subprocess.DEVNULL) for n in (0, 1)]
        assert [window.wait() for window in windows] == [0, 0]
        problems: list[ExampleError] = []
        assert len(store.entries(problems)) == 5
        assert problems == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
class TestKill:
    @staticmethod
    def kill(folder: Path, seed: int) -> int:
        """Kill a process that adds at a random moment; every example that it reported is whole. Returns how many."""
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", ADD, str(folder), "0", "100000"]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(random.Random(seed).uniform(0.01, 0.3))
            child.kill()
            told = child.stdout.read().splitlines()
            assert child.wait() == -signal.SIGKILL
        reported = [line for line in told if len(line) == 64]
        store, problems = ExampleStore(folder), []
        found = {entry.name: entry for entry in store.entries(problems)}
        assert problems == []
        assert set(reported) <= set(found)
        assert len(found) <= len(reported) + 1
        for entry in found.values():
            assert same(store.load(entry), large(int(entry.modality)))
        return len(found)

    def test_four_kills(self, tmp_path):
        assert sum(self.kill(tmp_path / str(seed), seed) for seed in range(4)) > 0

    @pytest.mark.nightly
    def test_thirty_kills(self, tmp_path):
        assert sum(self.kill(tmp_path / str(seed), seed) for seed in range(100, 130)) > 30


def entry(case: str) -> Entry:
    return Entry("0" * 64, case, "", NAMES, (0, 1, 0), 1, SHAPE, (1.0, 1.0, 1.0), 1, 3)


def cases(count: int, seed: int = 0) -> list[str]:
    return [random.Random(f"{seed}/{n}").randbytes(32).hex() for n in range(count)]


class TestHeldOut:
    def test_of_fewer_than_five_scans_none(self):
        assert held_out([entry(case) for case in cases(4) for _ in range(5)]) == []

    def test_about_one_in_five(self):
        assert 150 < len(held_out([entry(case) for case in cases(1000)])) < 250

    @given(st.integers(0, 10**6), st.integers(5, 12))
    def test_at_least_one_and_never_all(self, seed, count):
        assert 0 < len(held_out([entry(case) for case in cases(count, seed)])) < count

    @given(st.integers(0, 10**6), st.integers(5, 30))
    def test_no_scan_that_was_learned_from_is_held_out_later(self, seed, count):
        all_of_them = cases(count + 5, seed)
        before, after = (
            {one.case for one in held_out([entry(case) for case in some])}
            for some in (all_of_them[:count], all_of_them)
        )
        learned = set(all_of_them[:count]) - before
        assert not learned & after

    def test_all_examples_of_a_scan_are_on_one_side(self):
        drawn = held_out([entry(case) for case in cases(10) for _ in range(3)])
        assert len(drawn) == 3 * len({one.case for one in drawn})

    def test_the_order_does_not_matter(self):
        entries = [entry(case) for case in cases(20)]
        assert {one.case for one in held_out(entries)} == {one.case for one in held_out(entries[::-1])}


def test_listing_hundreds_of_examples_is_quick(store):
    data = store.add(example()).path.read_bytes()
    for n in range(300):
        (store.folder / f"{n:064x}.npz").write_bytes(data)
    began = time.perf_counter()
    assert len(store.entries()) == 301
    assert time.perf_counter() - began < 2
