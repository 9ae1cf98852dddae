"""What stored cases are used for when the window learns: learned from, rehearsed, or scored on."""

import numpy as np
import pytest

from napari_medattn.data import Example
from napari_medattn.data.phantom import phantom
from napari_medattn.device import leaving_a_core
from napari_medattn.store.examples import Entry, ExampleStore
from napari_medattn.widgets.learn.lesson import MOST_EARLIER, Roles, learned_before
from napari_medattn.widgets.learn.teaching import Taught, leave_out, taught_cases
from tests.learn_window import CLASSES, tiny_network


def entry(number: int, *, hidden=False) -> Entry:
    name = f"{number:064x}"
    return Entry(
        name, name, f"2026-01-{number:02}", CLASSES, (9, 1, 1), 1, (1, 4, 4), (1.0, 1.0, 1.0), 1, 2,
        provenance={"scan": f"scan {number}"}, hidden=hidden,
    )  # fmt: skip


def roles(taught, known=(), open_scan=""):
    return Roles.of(taught, frozenset(known), open_scan)


class TestRoles:
    def test_new_cases_are_learned_from_and_known_ones_rehearsed(self):
        a, b = entry(1), entry(2)
        found = roles([Taught(a), Taught(b)], known=[a.name])
        assert (found.new, found.earlier, found.scored) == ((b,), (a,), ())

    def test_the_open_scan_is_learned_as_it_is_now_only(self):
        a, b = entry(1), entry(2)
        found = roles([Taught(a), Taught(b)], known=[b.name], open_scan="scan 1")
        assert (found.new, found.earlier) == ((), (b,))

    def test_without_anything_new_all_is_learned_once_more(self):
        a = entry(1)
        assert roles([Taught(a)], known=[a.name]).new == (a,)

    def test_what_is_left_out_has_no_part(self):
        found = roles([Taught(entry(1, hidden=True)), Taught(entry(2))])
        assert found.new == (entry(2),)

    def test_a_case_is_not_scored_on_once_it_was_learned_from(self):
        a, b = entry(1), entry(2)
        found = roles([Taught(a, scored=True), Taught(b, scored=True)], known=[a.name], open_scan="elsewhere")
        assert (found.earlier, found.scored) == ((a,), (b,))

    def test_of_many_earlier_cases_the_newest_are_read(self):
        many = [entry(number) for number in range(1, MOST_EARLIER + 5)]
        found = roles([Taught(one) for one in many], known=[one.name for one in many], open_scan="elsewhere")
        assert found.earlier == tuple(many[-MOST_EARLIER:])


class TestTaughtCases:
    @pytest.fixture
    def store(self):
        return ExampleStore()

    def add(self, store, slices, seed=0, names=CLASSES):
        volume, labels = phantom(seed, (4, 16, 16))
        weights = np.zeros(labels.shape, bool)
        weights[list(slices)] = True
        return store.add(Example(volume, labels, weights, names))

    def test_of_a_scan_the_newest_is_shown(self, store):
        self.add(store, [0])
        newest = self.add(store, [0, 1])
        assert [one.entry for one in taught_cases(store, CLASSES)] == [newest]

    def test_other_classes_are_not(self, store):
        self.add(store, [0], names=("background", "a", "b"))
        assert taught_cases(store, CLASSES) == []

    def test_leaving_out_reaches_older_entries_of_the_scan_too(self, store):
        self.add(store, [0])
        self.add(store, [0, 1])
        leave_out(store, taught_cases(store, CLASSES)[0], True)
        (one,) = taught_cases(store, CLASSES)
        assert not one.used
        assert store.latest() == []

    def test_taken_in_again_the_newest_counts(self, store):
        self.add(store, [0])
        newest = self.add(store, [0, 1])
        leave_out(store, taught_cases(store, CLASSES)[0], True)
        leave_out(store, taught_cases(store, CLASSES)[0], False)
        (one,) = taught_cases(store, CLASSES)
        assert one.used
        assert store.latest() == [newest]


def test_a_version_knows_what_those_before_it_learned_from():
    root = tiny_network()
    child = tiny_network("child", root, seed=1, training={"method": "whole", "examples": ["a", "b"]})
    grandchild = tiny_network("grandchild", child, seed=2, training={"method": "whole", "examples": ["c"]})
    tiny_network("cousin", root, seed=3, training={"method": "whole", "examples": ["d"]})
    assert learned_before(grandchild) == {"a", "b", "c"}
    assert learned_before(root) == frozenset()


def test_a_thread_is_left_to_the_window_and_taken_back():
    import torch

    torch.set_num_threads(3)
    with leaving_a_core():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    with leaving_a_core():
        assert torch.get_num_threads() == 1
