"""How the two halves of an axial block compose: what a position reaches through rows after columns."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_medattn.attention.records import AxialRecord, Record
from napari_medattn.errors import InputError


def through_block(one: Record, other: Record, position: tuple[int, ...]) -> Tensor:
    """What a position gathers from through a block's columns and then its rows.

    An axial block attends along columns first and along rows after that (Medical Transformer, arXiv 2102.10662,
    section 3.2), so position (y, x) reaches (y', x') with the weight ``row[y; x, x'] * column[x'; y, y']``. This is
    an approximation of the block: what lies between the halves (positional terms of the values, norms) is left out.

    Args:
        one: Rows or columns of a block.
        other: The other of the two.
        position: (y, x) on their grid.

    Returns:
        (B, heads, Y, X), summing to one over the position's patch, zero outside of it.

    Raises:
        InputError: If they are not the columns and the rows of one block, or the position lies outside the grid.
    """
    pair = {record.site.axis: record for record in (one, other) if isinstance(record, AxialRecord)}
    if set(pair) != {2, 3} or one.grid != other.grid or one.site.patches != other.site.patches:
        raise InputError(
            f"{one.site.title} and {other.site.title} are not the columns and rows of one block.",
            "Choose both halves of the same block.",
        )
    columns, rows = pair[2], pair[3]
    along_row = rows.query(position)
    patches = columns.site.patches
    height, width = (side // patches for side in columns.grid)
    y, x = position
    row, at = divmod(y, height)
    column = x // width
    # (B, columns of the patch as lines, heads, Y of the patch): what each column gathers at the height of the query
    down = columns.weights[:, row, column, :, :, at, :]
    part = along_row[:, :, y, column * width : (column + 1) * width]
    found = torch.zeros_like(along_row)
    found[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] = torch.einsum(
        "bhx,bxhy->bhyx", part, down
    )
    return found
