"""The tools: choose one, see what it would change, and apply or discard it."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels
from qtpy.QtWidgets import QDoubleSpinBox, QLabel, QWidget

from napari_medattn.correct.apply import admit
from napari_medattn.correct.proposal import Proposal
from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.preview import Preview
from napari_medattn.widgets.correct.recipes import RECIPES, Recipe, Task
from napari_medattn.widgets.correct.where import SELECTION, SLICE, VOLUME, chosen_box, draw_selection
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.clicks import Clicks
from napari_medattn.widgets.parts import MessageLine, button, choice, column, row
from napari_medattn.widgets.session import Session

_PLACES = {
    "this slice": SLICE,
    "selection": SELECTION,
    "3-D": VOLUME,
}


class Tools(QWidget):
    """Runs tools in the background; a preview changes nothing until it is applied.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what happened.
    """

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__()
        self.session, self.jobs, self.message = session, jobs, message
        self.preview_shown: Preview | None = None
        self._proposal: Proposal | None = None
        self._job: Job | None = None
        self._stale = False
        self._amount_of: Recipe | None = None
        self._mode_before: Any = None
        self._armed: tuple[Case, Labels, Recipe] | None = None
        self._clicks = Clicks(session, self._clicked)
        self.tool = choice("tool", "What to do; nothing changes before you apply it.", {r.name: r for r in RECIPES})
        self.where = choice(
            "where the tool works",
            "The slice in view; the rectangles that you drew and the slices between them, without one what the window "
            "shows of the slice; or all of the mask.",
            _PLACES,
        )
        self.amount = QDoubleSpinBox()
        self.amount.setAccessibleName("amount")
        self.amount_name = QLabel()
        self.draw = button("Draw selection", "Draw a rectangle; another one on another slice takes in those between.")
        self.run = button("Preview", "Show what the tool would change (Alt+T). Alt+G grows your strokes.")
        self.apply = button("Apply", "Change the mask as shown, as one undo step (Enter).")
        self.discard = button("Discard", "Take the preview away; nothing is changed (Escape).")
        self.stop = button("Cancel", "Stop; nothing is changed.")
        layout = column(
            self,
            row(self.tool, self.where, stretch=0),
            row(self.amount_name, self.amount, self.draw, stretch=1),
            row(self.run, self.apply, self.discard, self.stop, stretch=0),
        )
        layout.setContentsMargins(0, 0, 0, 0)
        self.tool.currentIndexChanged.connect(self._chosen)
        self.where.currentIndexChanged.connect(self._chosen)
        self.draw.clicked.connect(self._draw)
        self.run.clicked.connect(self.preview)
        self.apply.clicked.connect(self.accept)
        self.discard.clicked.connect(self.reject)
        self.stop.clicked.connect(self.cancel)
        session.image_changed.connect(self._gone)
        session.mask_changed.connect(self._gone)
        session.edits_changed.connect(self._edited)
        self._chosen()

    @property
    def recipe(self) -> Recipe:
        """The tool that is chosen."""
        return self.tool.currentData()

    @property
    def busy(self) -> bool:
        """Whether a tool is at work, or waits for a click."""
        return self._job is not None or self._armed is not None

    def choose(self, name: str, where: str | None = None) -> None:
        """Choose a tool by its name, and where it works."""
        self.tool.setCurrentIndex(self.tool.findText(name))
        if where is not None:
            self.where.setCurrentIndex(self.where.findData(where))

    def grow(self) -> None:
        """Preview how the newest strokes would grow."""
        self.choose(RECIPES[0].name)
        self.preview()

    def preview(self) -> None:
        """Show what the tool would change, after a click if it wants one."""
        case = self.session.case
        if case is None or case.mask is None or self.busy:
            return
        self._take_away()
        self._chosen()  # a selection may have been drawn meanwhile
        if self.recipe.clicks:
            self._armed, self._mode_before = (case, case.mask, self.recipe), str(case.mask.mode)
            self.session.viewer.layers.selection.active = case.mask  # a click draws nothing in another layer
            case.mask.mode = "pan_zoom"
            self._clicks.turn(True)
            self.message.say(f"Click where to {self.recipe.name}.")
            self._refresh()
            return
        self._start(case, self.recipe, ())

    def accept(self) -> None:
        """Apply what is shown."""
        case, proposal = self.session.case, self._proposal
        if case is None or proposal is None:
            return
        self._take_away()
        try:
            admitted = case.apply(proposal)
        except MedAttnError as error:
            self.message.fail(error)
            return
        self.message.say(f"{proposal.tool}: changed {_voxels(admitted.changed)}. Undo takes it back.")

    def reject(self) -> None:
        """Discard what is shown."""
        if self._proposal is not None:
            self._take_away()
            self.message.say("Discarded; nothing was changed.")

    def cancel(self) -> None:
        """Stop what is at work, and no longer wait for a click."""
        if self.busy:
            self._let_go()
            self.message.say("Cancelled; nothing was changed.")

    def close(self) -> bool:
        """Let go of the viewer; the widget itself may be gone already."""
        if self._job is not None:
            self._job.cancel()
        self._disarm()
        if self.preview_shown is not None:
            self.preview_shown.close()
        return True

    def _start(self, case: Case, recipe: Recipe, voxel: tuple[int, ...]) -> None:
        try:
            task = self._task(case, recipe, voxel)
        except MedAttnError as error:
            self.message.fail(error)
            return

        def steps() -> Steps:
            yield
            return recipe.make(task)

        def done(proposal: Proposal) -> None:
            if self._job is job:
                self._job = None
                self._show(case, task, proposal)

        def failed(error: BaseException) -> None:
            if self._job is job:
                self._job = None
                self.message.fail(error)
                self._refresh()

        self._stale = False
        job = self._job = self.jobs.start(recipe.name, steps, on_done=done, on_error=failed, on_cancelled=self._refresh)
        self.message.say(f"{recipe.name} ...")
        self._refresh()

    def _task(self, case: Case, recipe: Recipe, voxel: tuple[int, ...]) -> Task:
        assert case.mask is not None
        where = self.where.currentData()
        if recipe.volume_only and case.mask.ndim == 2:
            raise InputError("A 2-D mask has no other slices.", "Use another tool.")
        if where != VOLUME and case.mask.ndim == 3 and self.session.viewer.dims.ndisplay == 3:
            raise InputError("The 3-D view shows no slice.", "Work in 3-D, or switch the viewer to 2-D.")
        return Task.of(case, chosen_box(case, where), float(self.amount.value()), voxel)

    def _show(self, case: Case, task: Task, proposal: Proposal) -> None:
        self._refresh()
        if case is not self.session.case or case.watch is None or case.watch.labels is not task.labels:
            return
        if self._stale:
            self.message.say("The mask was changed meanwhile: preview again.")
            return
        try:
            admitted = admit(proposal, case.watch.labels, case.watch.log)
        except MedAttnError as error:
            self.message.fail(error)
            return
        stays = [f"{_voxels(admitted.kept)} that you painted or confirmed"] if admitted.kept else []
        stays += [f"{_voxels(admitted.locked)} of locked classes"] if admitted.locked else []
        rest = f" {' and '.join(stays)} stay{'s' if admitted.kept + admitted.locked == 1 else ''}." if stays else ""
        if admitted.edit is None:
            self.message.say(f"{proposal.tool}: nothing to change here.{rest}")
            return
        self._proposal = proposal
        self.preview_shown = Preview(case, admitted.edit, self.accept, self.reject)
        self.message.say(
            f"{proposal.tool} would change {_voxels(admitted.changed)}.{rest} Enter applies, Escape discards."
        )
        self._refresh()

    def _clicked(self, voxel: tuple[float, ...]) -> None:
        if self._armed is None:
            return
        case, mask, recipe = self._armed
        self._let_go()
        if case is self.session.case and case.mask is not None and case.mask == mask:
            sizes = case.mask.data.shape
            near = (min(max(round(at), 0), size - 1) for at, size in zip(voxel[-len(sizes) :], sizes, strict=True))
            self._start(case, recipe, tuple(near))

    def _draw(self) -> None:
        case = self.session.case
        if case is None or case.mask is None:
            return
        if self.session.viewer.dims.ndisplay == 3 and case.mask.ndim == 3:
            self.message.say("Rectangles are drawn on slices: switch the viewer to 2-D.")
            return
        draw_selection(case)
        self.message.say("Draw a rectangle around what is meant; another one on another slice takes in those between.")

    def _let_go(self) -> None:
        """Of a job and of the wait for a click."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
        self._disarm()
        self._refresh()

    def _disarm(self) -> None:
        """No longer wait for a click; the brush is what it was before."""
        self._clicks.turn(False)
        if self._armed is not None:
            mask, self._armed = self._armed[1], None
            mask.mode = self._mode_before

    def _take_away(self, *, later: bool = False) -> None:
        shown, self.preview_shown, self._proposal = self.preview_shown, None, None
        if shown is not None:
            shown.close(later=later)
        self._refresh()

    def _gone(self) -> None:
        """Another scan or mask is worked on, perhaps because napari is removing layers just now."""
        self._let_go()
        self._take_away(later=True)

    def _edited(self) -> None:
        self._stale = True
        if self._proposal is not None:
            self._take_away()
            self.message.say("The mask was changed: preview again.")

    def _chosen(self) -> None:
        """A tool's number has its own name and limits."""
        amount, where = self.recipe.amount, self.where.currentData()
        for widget in (self.amount, self.amount_name):
            widget.setVisible(amount is not None)
        if amount is not None:
            self.amount_name.setText(amount[0].format(size=self._size()))
        if amount is not None and self._amount_of is not self.recipe:
            self._amount_of = self.recipe
            self.amount.setDecimals(0 if isinstance(amount[1], int) else 1)
            self.amount.setRange(amount[1], amount[2])
            self.amount.setValue(amount[3])
        self.tool.setToolTip(self.recipe.tip)
        self.draw.setVisible(where == SELECTION)
        if self._proposal is not None:
            self._take_away()
            self.message.say("")
        self._refresh()

    def _size(self) -> str:
        """The unit of what the tool looks at: an area where that is one slice."""
        case, where = self.session.case, self.where.currentData()
        if case is None or case.mask is None:
            return "mm²" if where == SLICE else "mm³"
        thick = [side.stop - side.start for side in chosen_box(case, where)]
        return "mm³" if len(thick) == 3 and min(thick) > 1 else "mm²"

    def _refresh(self) -> None:
        case = self.session.case
        ready = case is not None and case.mask is not None
        shown = self._proposal is not None
        for widget in (self.tool, self.where, self.amount, self.draw):
            widget.setEnabled(ready and not self.busy)
        self.run.setEnabled(ready and not self.busy)
        self.apply.setVisible(shown)
        self.discard.setVisible(shown)
        self.stop.setVisible(self.busy)


def _voxels(count: int) -> str:
    return f"{count:,} voxel{'' if count == 1 else 's'}"
