"""`capture_attention`: a bracket around forward passes, during which attention is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident

from torch import Tensor, nn

from napari_medattn.attention.records import RECORDS, Record
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite, attention_sites
from napari_medattn.models.tap import Listener, Tap


class Capture(Mapping[str, Record]):
    """Records by site key, in forward order; each holds the latest forward pass."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def listener(self, site: AttentionSite) -> Listener:
        """A tap listener that keeps what ``site`` emits.

        Forward passes of other threads through the same network are none of this capture's business.
        """
        home = get_ident()

        def keep(tensors: dict[str, Tensor]) -> None:
            if get_ident() != home:
                return
            kept = {name: tensor.detach() for name, tensor in tensors.items()}
            self._records[site.key] = RECORDS[site.kind](site, **kept)

        return keep


def choose_sites(model: nn.Module, keys: Iterable[str] | None) -> list[AttentionSite]:
    """The network's sites with these keys, or all of them for None.

    Raises:
        InputError: If a key is unknown or none is given.
    """
    declared = {site.key: site for site in attention_sites(model)}
    wanted = list(declared) if keys is None else list(keys)
    unknown = [key for key in wanted if key not in declared]
    if unknown:
        raise InputError(
            f"The network has no attention site {', '.join(unknown)}.",
            f"It has {', '.join(declared) or 'none'}.",
        )
    if not wanted:
        raise InputError("No attention site is chosen, so nothing would be captured.", "Choose at least one.")
    return [declared[key] for key in wanted]


@contextmanager
def capture_attention(model: nn.Module, sites: Iterable[str] | None = None) -> Iterator[Capture]:
    """Keep the attention of the forward passes that run inside the ``with`` block.

    Args:
        model: A network from `create_model` or of a checkpoint.
        sites: Site keys; all sites if None.

    Yields:
        A mapping from site key to record, filled by each forward pass. Listeners are taken off again
        on leaving, also after an exception.

    Raises:
        InputError: For unknown sites, or if the block ends without a forward pass.
    """
    capture = Capture()
    chosen = choose_sites(model, sites)
    attached: list[tuple[Tap, Listener]] = []
    try:
        for site in chosen:
            tap, listener = tap_of(model, site), capture.listener(site)
            tap.attach(listener)
            attached.append((tap, listener))
        yield capture
    finally:
        for tap, listener in attached:
            tap.detach(listener)
    silent = [site.title for site in chosen if site.key not in capture]
    if silent:
        raise InputError(
            f"No attention came from {', '.join(silent)}.",
            "Run the network at least once inside the capture.",
        )


def tap_of(model: nn.Module, site: AttentionSite) -> Tap:
    """The tap of a declared site."""
    return model.get_submodule(f"{site.key}.tap")  # type: ignore[return-value]
