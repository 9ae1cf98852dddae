"""`switched_off`: a bracket around forward passes, during which attention at a site is held back.

Ablation of heads as in Michel et al., "Are Sixteen Heads Really Better than One?", arXiv 1905.10650, section 2.3: what
a head found is replaced by zeros and everything else is left as it is; nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from napari_medattn.attention.capture import choose_sites, tap_of
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite
from napari_medattn.models.tap import Switch


@contextmanager
def switched_off(model: nn.Module, site: str, heads: Iterable[int] | None = None) -> Iterator[None]:
    """Hold back a site, or some of its heads, in the forward passes that run inside the ``with`` block.

    Forward passes of other threads go on as usual. Brackets may be nested to switch off several sites.

    Args:
        model: A network from `create_model` or of a checkpoint, prepared for inference or not.
        site: The site's key.
        heads: Numbers of the heads from 0; None for the whole site. See `off_means` for what that does. The head of
            a site that has only one is the whole site.

    Raises:
        InputError: For a site or head that is not there, for no head at all, or if the block ends without a forward
            pass in this thread.
    """
    (declared,) = choose_sites(model, [site])
    switch = Switch(_heads_off(declared, heads))
    tap = tap_of(model, declared)
    tap.switch_off(switch)
    try:
        yield
    finally:
        tap.switch_on(switch)
    if not switch.reached:
        raise InputError(
            f"No forward pass came by {declared.title} while it was switched off.",
            "Run the network at least once inside the bracket, in the same thread.",
        )


def off_means(site: AttentionSite, head: int | None = None) -> str:
    """What switching off a site, or one of its heads, does to the network, as half a sentence."""
    if site.kind == "gate" and site.normalisation == "softmax":
        return "the gate gives every position the even share"
    if site.kind == "gate":
        return "the gate lets everything through: it is 1 everywhere"
    if site.kind == "axial":
        # The columns and the rows of a block follow one another, and only both together have a shortcut.
        what = "the attention" if head is None or site.heads == 1 else "the head"
        return f"{what} hands on zeros, and only the block's shortcut goes around it"
    if head is None or site.heads == 1:
        return "the attention adds nothing, and only what runs past it remains"
    return "what the head gathers is zero, the other heads are as before"


def _heads_off(site: AttentionSite, heads: Iterable[int] | None) -> frozenset[int] | None:
    """The heads as the tap wants them; None for the whole site.

    Raises:
        InputError: If there is no such head, or none is given.
    """
    if heads is None:
        return None
    chosen = frozenset(heads)
    if not chosen:
        raise InputError(f"No head of {site.title} is chosen to be switched off.", "Choose one, or the whole site.")
    wrong = sorted(head for head in chosen if not 0 <= head < site.heads)
    if wrong:
        raise InputError(
            f"{site.title} has no head {', '.join(map(str, wrong))}.",
            f"Its heads go from 0 to {site.heads - 1}." if site.heads > 1 else "It has only head 0.",
        )
    return None if site.heads == 1 else chosen
