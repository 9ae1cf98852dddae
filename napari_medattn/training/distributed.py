"""Several processes that share every batch, on one machine or several, by Lightning Fabric.

Each process draws its part of the batch and holds a copy of the network; gradients are averaged by torch's
`DistributedDataParallel`. Losses that are pooled over the batch are pooled over all processes, so the curve is that of
one process with the whole batch. The exception is batch norm: on GPUs its statistics are those of the whole batch
(`SyncBatchNorm`), on CPUs, where torch has no such thing, those of each process's own patches; the running statistics
are then the first process's. Random numbers that a network draws itself (dropout) differ from those of one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_medattn.errors import InputError
from napari_medattn.models import TrainingOutputs, training_outputs
from napari_medattn.training.workers import Forward, Workers

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# The others wait while the first process scores and saves.
_PATIENCE = timedelta(hours=12)


def launch(
    devices: int, nodes: int = 1, *, strategy: str = "ddp", device: str = "auto", sleeping: bool = False
) -> Workers:
    """Start the other processes of a training; each of them runs the program from its beginning up to here.

    With several nodes the program is started on each, by ``torchrun``, by SLURM, or by hand with MASTER_ADDR,
    MASTER_PORT and NODE_RANK set.

    Args:
        devices: Processes per node, each with a GPU of its own where there are any.
        nodes: Machines.
        strategy: ``"ddp"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        sleeping: Whether some parameters are frozen at the beginning and train later.

    Raises:
        InputError: If that cannot be started.
    """
    if strategy != "ddp":
        raise InputError(f"There is no strategy {strategy!r}.", "Use ddp.")
    if devices < 1 or nodes < 1:
        raise InputError(f"{devices} devices on {nodes} nodes cannot train.", "Use 1 or more.")
    kind = device.partition(":")[0]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda"):
        raise InputError(f"Several processes cannot train on {device!r}.", "Use cpu or cuda.")
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise InputError(f"There are {torch.cuda.device_count()} GPUs here, not {devices}.", "Use fewer devices.")
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=_PATIENCE, find_unused_parameters=sleeping),
    )
    fabric.launch()
    return FabricWorkers(fabric)


class FabricWorkers:
    """The processes that a `Fabric` has launched."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank, self.count = fabric.global_rank, fabric.world_size
        self.device: torch.device | None = fabric.device

    def wrap(self, model: nn.Module) -> Forward:
        """The network's forward pass; gradients are averaged over the processes in `backward`."""
        if self.fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        for parameter in frozen:  # so that their gradients are averaged too, once they have some
            parameter.requires_grad_(True)
        shared = self.fabric.setup_module(_TrainingForward(model), move_to_device=False)
        for parameter in frozen:
            parameter.requires_grad_(False)

        def forward(images: Tensor) -> TrainingOutputs:
            logits, supervised, terms = shared(images)
            return TrainingOutputs(logits, supervised, terms)

        return forward

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, the mean of all processes'."""
        self.fabric.backward(loss)

    def pool(self, sums: Tensor) -> Tensor:
        """Sums over the batch of all processes."""
        pooled: Tensor = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        return pooled

    def mean(self, value: Tensor) -> float:
        """A number's mean over the processes."""
        mean = self.fabric.all_reduce(value, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return float(mean)

    def from_first(self, value: Any) -> Any:
        """What the first process holds."""
        return self.fabric.broadcast(value)


class _TrainingForward(nn.Module):
    """A forward pass that returns plain tuples and dicts, which is what `DistributedDataParallel` looks through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Mapping[str, Tensor]]:
        outputs = training_outputs(self.model, images)
        return outputs.logits, outputs.supervised, dict(outputs.terms)


class _Sum(torch.autograd.Function):
    """The sum over all processes.

    Every process has the whole loss L of the sum S. Backwards, dL/dS is summed over the N processes too; averaging the
    gradients takes the N away again, and what is left is dL/dS times the sum of all dS/dparameter.
    """

    @staticmethod
    def forward(context: Any, sums: Tensor) -> Tensor:
        total = sums.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total
