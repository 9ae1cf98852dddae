"""Learn in the window: what is learned from, what came of it, and what becomes of a new version."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox, QScrollArea

from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, TrainingStep, Validation
from napari_medattn.learning.methods import METHODS
from napari_medattn.learning.plan import LearnPlan
from napari_medattn.store import load_checkpoint
from napari_medattn.store.versions import Versions
from tests.learn_window import NAME, correct, made_up, own_checkpoints, tiny_network
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment

LEARN = "napari_medattn.learning.learn.learn_steps"


@pytest.fixture
def ready(viewer, scan, qtbot):
    """The dock with a mask of a tiny network, corrected in three slices."""
    tiny_network()
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, NAME, qtbot)
    segment(dock, qtbot)
    correct(dock)
    dock.learn.cases.refresh()
    settled(dock, qtbot)
    return dock


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


def settled(dock, qtbot):
    learn = dock.learn
    qtbot.waitUntil(lambda: not (learn.cases.reading or learn.versions.reading), timeout=PATIENCE)


def learn(dock, qtbot):
    with qtbot.waitSignal(dock.learn.ended, timeout=PATIENCE):
        dock.learn.run.click()
    settled(dock, qtbot)


def add_this(dock, qtbot):
    dock.learn.cases.add.click()
    qtbot.waitUntil(lambda: "is kept" in dock.learn.message.text, timeout=PATIENCE)
    settled(dock, qtbot)


class TestWhatIsLearnedFrom:
    def test_the_line_counts_the_open_case(self, ready):
        assert ready.learn.summary.text() == f"1 case, 3 slices, {ready.session.case.edited:,} edited voxels"

    def test_this_adds_the_open_case_once_however_often(self, ready, qtbot):
        add_this(ready, qtbot)
        correct(ready, [20])
        add_this(ready, qtbot)
        cases = ready.learn.cases
        assert len(cases.taught) == 1
        assert cases.taught[0].entry.slices == 4
        cases.refresh()
        assert ready.learn.summary.text().startswith("1 case, 4 slices")

    def test_nothing_to_learn_from_is_said_and_learn_is_off(self, viewer, scan, qtbot):
        tiny_network()
        viewer.open(str(scan), plugin=PLUGIN)
        dock = open_dock(viewer)
        choose(dock, NAME, qtbot)
        assert dock.learn.summary.text().startswith("Needs a mask")
        segment(dock, qtbot)
        assert dock.learn.summary.text().startswith("Nothing to learn from yet")
        assert not dock.learn.run.isEnabled()
        assert not dock.learn.cases.add.isEnabled()

    def test_a_kept_case_is_learned_from_when_another_scan_is_open(self, ready, viewer, qtbot, monkeypatch):
        add_this(ready, qtbot)
        viewer.add_image(np.random.default_rng(0).normal(size=(8, 40, 40)), name="other")
        settled(ready, qtbot)
        assert ready.learn.summary.text().startswith("1 case, 3 slices")
        steps = made_up("better")
        monkeypatch.setattr(LEARN, steps)
        learn(ready, qtbot)
        assert [example.labels.shape for example in steps.asked["examples"]] == [(32, 48, 48)]

    def test_what_is_corrected_now_takes_the_place_of_what_was_kept(self, ready, qtbot, monkeypatch):
        add_this(ready, qtbot)
        correct(ready, [20])
        steps = made_up("better")
        monkeypatch.setattr(LEARN, steps)
        learn(ready, qtbot)
        (example,) = steps.asked["examples"]
        assert example.counts().any(axis=(1, 2)).sum() == 4
        assert example.class_names == ready.session.checkpoint.card.class_names

    def test_corrections_kept_as_they_are_go_by_their_name_in_the_store(self, ready, qtbot, monkeypatch):
        add_this(ready, qtbot)
        steps = made_up("better")
        monkeypatch.setattr(LEARN, steps)
        learn(ready, qtbot)
        (example,) = steps.asked["examples"]
        assert example.provenance["example"] == ready.learn.cases.taught[0].entry.name

    def test_a_case_that_is_unticked_is_left_out_for_good(self, ready, viewer, qtbot):
        add_this(ready, qtbot)
        viewer.add_image(np.zeros((4, 40, 40)), name="other")
        settled(ready, qtbot)
        cases = ready.learn.cases
        cases.list.topLevelItem(0).setCheckState(0, Qt.CheckState.Unchecked)
        qtbot.waitUntil(lambda: not cases.taught[0].used, timeout=PATIENCE)
        assert not ready.learn.run.isEnabled()
        cases.list.topLevelItem(0).setCheckState(0, Qt.CheckState.Checked)
        qtbot.waitUntil(lambda: cases.taught[0].used, timeout=PATIENCE)
        assert ready.learn.run.isEnabled()


class TestTraining:
    def test_a_real_one_saves_a_version_with_scores(self, ready, qtbot, own_home):
        ready.learn.choices.time.addItem("1 s", 1.0)
        ready.learn.choices.time.setCurrentText("1 s")
        learn(ready, qtbot)
        new = ready.learn.learned.checkpoint
        assert own_checkpoints(own_home) == [NAME, new.name]
        assert new.card.parent == load_checkpoint(NAME).card.weights_sha256
        assert ready.learn.curves.losses
        assert new.name in ready.learn.message.text
        used = ready.learn.learned.verdict.may_become_current
        assert ready.session.checkpoint.name == (new.name if used else NAME)

    def test_cancel_saves_nothing(self, ready, qtbot, own_home):
        with qtbot.waitSignal(ready.learn.ended, timeout=PATIENCE):
            ready.learn.run.click()
            qtbot.waitUntil(lambda: len(ready.learn.curves.losses) > 0, timeout=PATIENCE)
            ready.learn.stop.click()
        assert own_checkpoints(own_home) == [NAME]
        assert "nothing was saved" in ready.learn.message.text
        assert ready.learn.run.isEnabled()

    def test_stop_and_keep_ends_early_and_saves(self, ready, qtbot, own_home):
        ready.learn.choices.time.setCurrentText("10 min")
        with qtbot.waitSignal(ready.learn.ended, timeout=PATIENCE):
            ready.learn.run.click()
            qtbot.waitUntil(lambda: len(ready.learn.curves.losses) > 0, timeout=PATIENCE)
            ready.learn.keep.click()
            assert not ready.learn.keep.isEnabled()
        assert len(own_checkpoints(own_home)) == 2

    def test_a_second_one_is_refused_in_a_sentence(self, ready, qtbot):
        ready.learn.run.click()
        first = ready.learn._job
        ready.learn.start()
        assert "already" in ready.learn.message.text
        assert ready.learn._job is first
        with qtbot.waitSignal(ready.learn.ended, timeout=PATIENCE):
            ready.learn.stop.click()

    def test_segmenting_meanwhile_uses_the_current_version(self, ready, qtbot):
        ready.learn.run.click()
        segment(ready, qtbot)
        assert ready.learn.running
        assert ready.session.case.mask.metadata["medattn"]["record"]["checkpoint"] == NAME
        with qtbot.waitSignal(ready.learn.ended, timeout=PATIENCE):
            ready.learn.stop.click()

    def test_every_choice_reaches_the_plan(self, ready, qtbot, monkeypatch):
        steps, choices = made_up("better"), ready.learn.choices
        monkeypatch.setattr(LEARN, steps)
        choices.method.setCurrentIndex(choices.method.findData("decoder"))
        choices.time.setCurrentText("15 s")
        choices.rehearsal.setValue(0.5)
        choices.anchor.setValue(0.25)
        choices.opinion.setValue(2)
        learn(ready, qtbot)
        wanted = LearnPlan(method="decoder", seconds=15.0, rehearsal=0.5, anchor=0.25, opinion=2.0)
        assert steps.asked["plan"] == wanted

    def test_untouched_choices_are_the_plan_as_it_is(self, ready, qtbot, monkeypatch):
        steps = made_up("better")
        monkeypatch.setattr(LEARN, steps)
        learn(ready, qtbot)
        assert steps.asked["plan"] == LearnPlan()

    def test_an_error_is_one_sentence_and_learning_can_begin_again(self, ready, qtbot, monkeypatch, told):
        def fails(*_, **__):
            yield Progress("preparing", 0, 0)
            raise TrainingError("The loss became nan after 3 steps.", "Lower the learning rate.")

        monkeypatch.setattr(LEARN, fails)
        learn(ready, qtbot)
        assert told == ["The loss became nan after 3 steps. Lower the learning rate."]
        assert ready.learn.run.isEnabled()

    def test_a_rung_of_less_memory_is_told_while_it_learns_and_after(self, ready, qtbot, monkeypatch):
        note = "Memory ran out: going on with 1 patch(es) per step."
        shown = []

        def steps(checkpoint, *args, **kwargs):
            yield Progress(note.rstrip("."), 0, 0)
            return (yield from made_up("better", notes=(note,))(checkpoint, *args, **kwargs))

        monkeypatch.setattr(LEARN, steps)
        follow = ready.learn.progress.follow
        monkeypatch.setattr(ready.learn.progress, "follow", lambda event: shown.append(event.stage) or follow(event))
        learn(ready, qtbot)
        assert note.rstrip(".") in shown
        assert note in ready.learn.message.text

    def test_why_it_ended_early_is_said(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("worse", stopped="The loss became nan; the weights of step 2 were kept."))
        learn(ready, qtbot)
        assert "The loss became nan; the weights of step 2 were kept." in ready.learn.message.text


class TestAnotherKindOfImage:
    @pytest.fixture
    def unlike(self, ready, monkeypatch):
        """Every example looks like something else until it is said that it is meant."""
        from napari_medattn.errors import InputError

        def check_fit(card, examples):
            raise InputError("scan looks unlike what tiny was trained on: it is CT, the training was on MR.", "Choose.")

        monkeypatch.setattr("napari_medattn.learning.fitting.check_fit", check_fit)
        return ready

    def test_no_is_no(self, unlike, qtbot, monkeypatch, own_home):
        asked = []
        no = QMessageBox.StandardButton.No
        monkeypatch.setattr(QMessageBox, "question", lambda _parent, _title, text: asked.append(text) or no)
        learn(unlike, qtbot)
        assert "it is CT" in asked[0]
        assert not unlike.learn.running
        assert own_checkpoints(own_home) == [NAME]

    def test_yes_learns_all_the_same(self, unlike, qtbot, monkeypatch):
        steps = made_up("better")
        monkeypatch.setattr(LEARN, steps)
        monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
        learn(unlike, qtbot)
        qtbot.waitUntil(lambda: not unlike.learn.running, timeout=PATIENCE)
        assert steps.asked["plan"].accept_mismatch
        assert unlike.learn.learned is not None


class TestKeepIfBetter:
    @pytest.mark.parametrize("word", ["better", "not worse"])
    def test_a_version_that_is_not_worse_becomes_current(self, ready, qtbot, monkeypatch, word):
        monkeypatch.setattr(LEARN, made_up(word))
        parent = ready.session.checkpoint
        learn(ready, qtbot)
        assert ready.session.checkpoint.name == f"{NAME}-tuned"
        assert ready.header.network.currentText() == f"{NAME}-tuned"
        assert Versions().current(parent).name == f"{NAME}-tuned"
        assert ready.learn.result.question.isHidden()

    @pytest.mark.parametrize("word", ["worse", "unknown"])
    def test_any_other_asks(self, ready, qtbot, monkeypatch, word):
        monkeypatch.setattr(LEARN, made_up(word))
        parent = ready.session.checkpoint
        learn(ready, qtbot)
        assert ready.session.checkpoint == parent
        assert Versions().current(parent) == parent
        assert not ready.learn.result.question.isHidden()

    def test_use_it(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("worse"))
        parent = ready.session.checkpoint
        learn(ready, qtbot)
        ready.learn.result.use.click()
        qtbot.waitUntil(lambda: ready.session.checkpoint.name == f"{NAME}-tuned", timeout=PATIENCE)
        assert Versions().current(parent).name == f"{NAME}-tuned"
        assert ready.learn.result.question.isHidden()

    def test_keep_old(self, ready, qtbot, monkeypatch, own_home):
        monkeypatch.setattr(LEARN, made_up("worse"))
        learn(ready, qtbot)
        ready.learn.result.keep.click()
        assert ready.session.checkpoint.name == NAME
        assert f"{NAME}-tuned" in own_checkpoints(own_home)
        assert ready.learn.result.question.isHidden()

    def test_a_network_that_was_chosen_meanwhile_stays_chosen(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("better"))
        with qtbot.waitSignal(ready.learn.ended, timeout=PATIENCE):
            ready.learn.run.click()
            ready.session.refresh_checkpoints(choose="phantom")
        assert ready.session.checkpoint.name == "phantom"

    def test_a_new_window_begins_with_the_version_in_use(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("better"))
        learn(ready, qtbot)
        from napari.components import ViewerModel

        from napari_medattn.widgets.session import Session

        session = Session(ViewerModel())
        assert session.checkpoint.name == f"{NAME}-tuned"
        session.close()

    def test_both_numbers_are_shown_by_class(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("better"))
        learn(ready, qtbot)
        result = ready.learn.result
        assert result.headline.text() == "held-out Dice 0.500 \u2192 0.750"
        rows = [[result.table.item(row, column).text() for column in range(3)] for row in range(2)]
        assert rows == [
            ["large organ", "0.500 \u2192 0.750", "2.5 \u2192 2.5"],
            ["small organ", "0.500 \u2192 0.750", "-"],
        ]

    def test_without_held_out_voxels_it_says_what_it_knows(self, ready, qtbot, monkeypatch):
        monkeypatch.setattr(LEARN, made_up("unknown", before=None))
        learn(ready, qtbot)
        assert "agrees with 60.0% \u2192 90.0% of what you corrected" in ready.learn.result.headline.text()
        assert ready.learn.result.table.isHidden()


class TestCurves:
    def test_many_steps_are_drawn_together(self, ready):
        curves = ready.learn.curves
        curves.begin()
        drawn = curves.drawings
        for step in range(1, 301):
            curves.add(TrainingStep(step, 0, 1 / step, Progress("training", 0, 1, "s")))
        assert curves.drawings == drawn
        curves.draw()
        assert len(curves.raw.getData()[0]) == 300
        assert curves.drawings == drawn + 1

    def test_the_first_score_brings_its_axis(self, ready):
        curves = ready.learn.curves
        curves.begin()
        axis = curves.plot.getPlotItem().getAxis("right")
        assert not axis.isVisible()
        curves.add(Validation(3, 0, {"a": 0.5, "b": 0.7}))
        curves.draw()
        assert axis.isVisible()
        assert curves.words.text() == "held-out Dice 0.600"
        np.testing.assert_allclose(curves.dice.getData(), [[3], [0.6]])


class TestChoices:
    def test_methods_are_those_of_the_core(self, ready):
        box = ready.learn.choices.method
        assert [box.itemData(place) for place in range(box.count())] == list(METHODS)

    def test_what_was_chosen_is_chosen_again(self, ready, viewer, qtbot):
        choices = ready.learn.choices
        choices.method.setCurrentIndex(choices.method.findData("statistics"))
        choices.time.setCurrentText("3 min")
        choices.opinion.setValue(4)
        viewer.window.remove_dock_widget(ready)
        again = open_dock(viewer)
        qtbot.waitUntil(lambda: again.session.predictor is not None, timeout=PATIENCE)
        assert again.learn.choices.plan()["method"] == "statistics"
        assert again.learn.choices.plan()["seconds"] == 180.0
        assert again.learn.choices.plan()["opinion"] == 4.0


def test_the_panel_is_never_wider_than_the_dock(ready, viewer, qtbot, monkeypatch):
    monkeypatch.setattr(LEARN, made_up("worse", notes=("A note that is as long as notes may well become. " * 3,)))
    add_this(ready, qtbot)
    learn(ready, qtbot)
    scroll = ready.findChild(QScrollArea)
    ready.learn.cases.section.header.setChecked(True)
    ready.learn.choices.more.header.setChecked(True)
    assert ready.learn.minimumSizeHint().width() <= 350
    assert scroll.widget().minimumSizeHint().width() <= 360
