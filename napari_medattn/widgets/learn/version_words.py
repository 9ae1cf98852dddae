"""What is said of a version in the tree, in columns and in full."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from napari_medattn.store.lineage import Version
from napari_medattn.store.training_record import TrainingRecord


def columns(version: Version) -> list[str]:
    """Name, day, method, number of examples, and mean held-out Dice."""
    card, record = version.checkpoint.card, TrainingRecord.of(version.checkpoint.card)
    words = [version.name, _day(card.created)]
    if record is None:
        return [*words, "shipped" if version.shipped else "", "", _number(mean(card.metrics.get("dice", {})))]
    return [*words, record.method, str(len(record.examples)), _number(mean(record.after.get("dice", {})))]


def in_full(version: Version) -> str:
    """All that a person may want to know, line by line."""
    card, record = version.checkpoint.card, TrainingRecord.of(version.checkpoint.card)
    lines = [f"{version.name}{', in use' if version.current else ''}", card.title]
    lines.append(f"made {card.created[:16].replace('T', ' ')} UTC")
    if version.parent is not None:
        guess = " (told by its name only)" if version.by_name else ""
        lines.append(f"fine-tuned from {version.parent.name}{guess}")
    elif version.lost_parent:
        lines.append(f"fine-tuned from {version.lost_parent}, which is not here")
    if record is not None:
        lines.append(f"{record.method}, {record.seconds:.0f} s, {len(record.examples)} stored examples")
        lines += [
            f"{measure_in_words(measure)} of {name}: {_number(before.get(name))} before, {_number(value)} after"
            for measure, before in record.before.items()
            for name, value in record.after.get(measure, {}).items()
        ]
    else:
        lines.append(f"trained on {card.trained_on or 'nothing: its masks mean nothing'}")
    lines += [f"note: {card.note}"] if card.note else []
    return "\n".join(line for line in lines if line)


def measure_in_words(measure: str) -> str:
    """``"dice"`` as people write it."""
    return {"dice": "Dice", "hd95": "HD95", "iou": "IoU", "assd": "ASSD"}.get(measure, measure)


def mean(scores: Mapping[str, float | None]) -> float | None:
    """The mean of what is known; None if nothing is."""
    known = [value for value in scores.values() if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _day(created: str) -> str:
    """The time for one of today, else the day."""
    try:
        when = datetime.fromisoformat(created).astimezone()
    except ValueError:
        return ""
    today = datetime.now().astimezone().date()
    return when.strftime("%H:%M") if when.date() == today else when.strftime("%d %b %y")
