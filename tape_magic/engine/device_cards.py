"""TensorFlow's GPUs beside the cards that NVML tells of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.card_order import cards_of, cuda_buses
from tape_magic.engine.device_state import State
from tape_magic.engine.nvml import Card, read_cards


@dataclass(frozen=True)
class Located:
    """The card of each GPU, None where it is not known, and what else NVML told.

    `unseen` are the cards that are none of TensorFlow's GPUs; empty where that cannot be told. `missing` says
    why NVML could not be asked.
    """

    cards: tuple[Card | None, ...]
    unseen: tuple[Card, ...] = ()
    driver: str | None = None
    missing: str | None = None

    @property
    def totals(self) -> tuple[int | None, ...]:
        """The memory of each GPU in bytes."""
        return tuple(card.total if card is not None else None for card in self.cards)

    @property
    def unclear(self) -> bool:
        """Whether NVML told of cards, and which of the GPUs these are is not known."""
        return self.missing is None and self.driver is not None and None in self.cards

    def capabilities(self, tf: Any, state: State) -> tuple[tuple[int, int], ...]:
        """The compute capabilities of the visible GPUs, as far as TensorFlow tells them."""
        details = [tf.config.experimental.get_device_details(gpu) for gpu in state.visible]
        return tuple(detail["compute_capability"] for detail in details if detail.get("compute_capability"))


def locate(tf: Any, state: State) -> Located:
    """Asks NVML, and finds each GPU among its cards; starts nothing."""
    told = read_cards()
    if told.missing is not None:
        return Located((None,) * len(state.gpus), missing=told.missing)
    products = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in state.gpus]
    cards = cards_of(products, told.cards, os.environ, cuda_buses())
    unseen = () if None in cards else tuple(card for card in told.cards if card not in cards)
    return Located(cards, unseen, told.driver)
