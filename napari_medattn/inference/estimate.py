"""How much memory a forward pass takes, told without running it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def forward_bytes(model: nn.Module, shape: Sequence[int]) -> int | None:
    """Bytes of all tensors that exist at once, at most, during a forward pass in single precision.

    The pass runs on torch's meta device: shapes without values. What libraries take for themselves comes on top.

    Args:
        model: The network.
        shape: Shape of its input, with batch and channels.

    Returns:
        None if the network does something that needs values, or does not take the shape.
    """
    meter = _Meter()
    try:
        with torch.inference_mode():
            bare = copy.deepcopy(model).to("meta")
            entry = torch.empty(tuple(shape), device="meta")
            with meter:
                bare(entry)
    except Exception:  # noqa: BLE001 - whatever it is, the network cannot be measured that way
        return None
    return meter.most + 4 * entry.numel()


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations return, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
