"""Train a network from scratch on a data folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_medattn.data import Example, read_volume
from napari_medattn.device import describe_device, resolve_device
from napari_medattn.errors import MedAttnError, TrainingError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.models import create_model
from napari_medattn.store import Card, Checkpoint, save_checkpoint
from napari_medattn.store.checkpoints import check_free
from napari_medattn.training.examples import TrainingCase, check_spacing, prepare_example
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.held_out import mean_dice, score_network
from napari_medattn.training.logs import BoardLog, CsvLog, Log, check_tensorboard
from napari_medattn.training.loop import Event, TrainingConfig, train_steps
from napari_medattn.training.patches import Augmentation, PatchSampler
from napari_medattn.training.runs import RunFolder, file_hash
from napari_medattn.training.scribbles import balanced_weights
from napari_medattn.training.sides import mirrored_safely
from napari_medattn.training.train_plan import TrainPlan, Triple, choose_patch, go_on_from
from napari_medattn.training.workers import Alone, Workers

__all__ = ["TrainPlan", "train_on_folder"]
Steps = Generator[Progress | Event, None, Checkpoint]


def train_on_folder(
    folder: DataFolder,
    plan: TrainPlan,
    *,
    device: str = "auto",
    out: Path | None = None,
    run: RunFolder | None = None,
    workers: Workers | None = None,
) -> Steps:
    """Train, score on the held-out cases and save.

    The weights of the last step are kept, not the best on the held-out cases, so that their scores stay honest.

    Args:
        folder: The data.
        plan: What to train.
        device: Where to compute.
        out: Folder for the checkpoint; the user's own if None.
        run: Where the state and the log of the run are kept; they are not if None.
        workers: The processes that train together; this one alone if None. Only the first scores, saves and logs.

    Yields:
        Progress while reading, then what `train_steps` yields.

    Returns:
        The saved checkpoint.

    Raises:
        MedAttnError: If the data or the plan do not fit.
    """
    return (yield from _Training(folder, plan, device, out, run, workers or Alone()).steps())


class _Training:
    """What belongs to one call of `train_on_folder`."""

    def __init__(
        self,
        folder: DataFolder,
        plan: TrainPlan,
        device: str,
        out: Path | None,
        run: RunFolder | None,
        workers: Workers,
    ) -> None:
        self.began = time.monotonic()
        check_free(plan.name, out)
        if run is not None and run.tensorboard:
            check_tensorboard()
        self.folder, self.out, self.run, self.workers = folder, out, run, workers
        self.device = workers.device or resolve_device(device)
        self.training, self.held_out = plan.split(folder)
        plan.check(self.held_out, folder.class_names, workers.count)
        self.plan = replace(plan, config=replace(plan.config, augmentation=self._augmentation(plan)))

    def _augmentation(self, plan: TrainPlan) -> Augmentation:
        how = plan.config.augmentation
        if not how.flip_axes:
            return how
        first = read_volume(self.folder.cases[self.training[0]][0])
        oriented = first.spatial_dims == 3 and first.grid.oriented
        orientation = plan.preparation.orientation if oriented else None
        return mirrored_safely(how, self.folder.class_names, plan.sides, orientation)

    def steps(self) -> Steps:
        """Read, train, score, save."""
        cases = yield from self._read()
        examples = [self.folder.scored(case) for case in self.held_out]
        for example in examples:
            check_spacing(example.volume, self.plan.preparation)
        if examples and not any((example.labels[example.counts()] > 0).any() for example in examples):
            raise TrainingError("No held-out case has a voxel of any class to score.", "Hold out others.")
        config = self.plan.config
        if self.plan.balance:
            weights = balanced_weights(cases, len(self.folder.class_names))
            config = replace(config, class_weights=weights)
        torch.manual_seed(config.seed)
        card, model = self._network(cases)
        sampler = PatchSampler(cases, self._patch(cases, model), self.plan.dims, config.augmentation, config.seed)
        validate = self._validation(card, examples)
        with ExitStack() as stack:
            keeper, logs = None, list[Log]()
            if self.run is not None:
                yield Progress("looking at the run", 0, 0)
                self._open(self.run, stack)
                keeper = self.run.keeper()
                logs = self._logs(self.run)
            for log in logs:
                stack.callback(log.close)
            for event in train_steps(
                model, sampler, config, self.device, validate, keeper=keeper, workers=self.workers
            ):
                for log in logs:
                    log.write(event)
                yield event
            yield Progress("scoring", 0, 0)
            checkpoint = self._finish(card, model, config, validate)
            if self.run is not None and self.workers.rank == 0:
                self.run.finish()
        return checkpoint

    def _read(self) -> Generator[Progress, None, list[TrainingCase]]:
        cases, flat, seen = [], True, set[str]()
        for count, case in enumerate(self.training):
            yield Progress("reading cases", count, len(self.training), "cases", time.monotonic() - self.began)
            example = self.folder.example(case)
            check_spacing(example.volume, self.plan.preparation)
            flat, grid = flat and example.volume.spatial_dims == 2, example.volume.grid
            seen |= {grid.orientation} if grid.oriented else set()
            cases.append(prepare_example(example, self.plan.preparation, len(self.folder.class_names)))
        if flat:
            self.plan = replace(self.plan, preparation=self.plan.preparation.for_flat(seen))
        return cases

    def _network(self, cases: Sequence[TrainingCase]) -> tuple[Card, nn.Module]:
        plan = self.plan
        arguments = {
            "in_channels": cases[0].image.shape[0],
            "num_classes": len(self.folder.class_names),
            "spatial_dims": plan.dims,
            **plan.options,
        }
        start = plan.start
        model = create_model(plan.network, **arguments) if start is None else go_on_from(start, plan, arguments)
        card = Card(
            name=plan.name,
            title=plan.title,
            network=plan.network,
            arguments=arguments,
            class_names=self.folder.class_names,
            preparation=plan.preparation,
            tile=plan.tile or self._patch(cases, model),
            limits=plan.limits,
            parent=start.card.weights_sha256 if start is not None else None,
            parent_name=start.name if start is not None else "",
        )
        return card, model

    def _patch(self, cases: Sequence[TrainingCase], model: nn.Module) -> Triple:
        return self.plan.patch or choose_patch([case.labels.shape for case in cases], model.stride)  # type: ignore[arg-type]

    def _validation(self, card: Card, examples: Sequence[Example]) -> Callable[[nn.Module], dict[str, float]] | None:
        def validate(network: nn.Module) -> dict[str, float]:
            return mean_dice(score_network(Predictor(network, card, self.device), examples), card.class_names)

        return validate if examples else None

    def _open(self, run: RunFolder, stack: ExitStack) -> None:
        """The first process opens the run's folder, and all hear what is wrong with it."""
        problem: MedAttnError | None = None
        if self.workers.rank == 0:
            try:
                stack.enter_context(run.locked())
                facts = self._facts()
                run.check(facts)
                run.begin(facts)
            except MedAttnError as error:
                problem = error
        problem = self.workers.from_first(problem)
        if problem is not None:
            raise problem

    def _facts(self) -> dict[str, Any]:
        """Everything that the run follows from."""
        plan, folder = self.plan, self.folder
        config = {"batch": plan.config.batch, **plan.config.to_json()}
        settings = {
            "network": plan.network,
            "dims": plan.dims,
            "options": plan.options,
            "patch": plan.patch,
            "preparation": vars(plan.preparation),
            "start": plan.start.card.weights_sha256 if plan.start is not None else None,
            "balance": plan.balance,
            "processes": self.workers.count,
            "classes": list(folder.class_names),
            "labels": folder.labelled,
            "training cases": self.training,
            "held-out cases": self.held_out,
        }
        paths = [path for case in (*self.training, *self.held_out) for path in folder.files(case)]
        files = {f"{path.parent.name}/{path.name}": file_hash(path) for path in paths}
        return {"plan": settings, "config": config, "data": files}

    def _logs(self, run: RunFolder) -> list[Log]:
        if self.workers.rank != 0:
            return []
        saved = run.keeper().load()
        after = 0 if saved is None else saved.step
        logs: list[Log] = [CsvLog(run.log, self.folder.class_names[1:], run.log_every, after)]
        return [*logs, BoardLog(run.path / "tensorboard", after)] if run.tensorboard else logs

    def _finish(
        self,
        card: Card,
        model: nn.Module,
        config: TrainingConfig,
        validate: Callable[[nn.Module], dict[str, float]] | None,
    ) -> Checkpoint:
        saved: Checkpoint | None = None
        if self.workers.rank == 0:
            dice = None if validate is None else validate(model)
            saved = save_checkpoint(self._told(card, config, dice), model.to("cpu"), self.out)
        checkpoint: Checkpoint = self.workers.from_first(saved)
        return checkpoint

    def _told(self, card: Card, config: TrainingConfig, dice: dict[str, float] | None) -> Card:
        """The card with what there is to say of the training."""
        plan, folder = self.plan, self.folder
        sparse = "" if not folder.classes else f"from {folder.labelled}, "
        return replace(
            card,
            trained_on=f"{folder.name}, {len(self.training)} cases {sparse}({folder.licence})",
            metrics={}
            if dice is None
            else {"data": f"{len(self.held_out)} held-out cases of {folder.name}", "dice": dice},
            training={
                "command": plan.command,
                "source": folder.source,
                "licence": folder.licence,
                "validation_cases": self.held_out,
                "split_seed": plan.split_seed,
                **({} if plan.fold is None else {"fold": plan.fold, "folds": plan.folds}),
                "config": config.to_json(),
                "device": describe_device(self.device),
                "processes": self.workers.count,
                "torch": torch.__version__,
                "minutes": round((time.monotonic() - self.began) / 60, 1),
            },
        )
