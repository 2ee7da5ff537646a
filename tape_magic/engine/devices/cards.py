"""Which NVML card each TensorFlow GPU is.

TensorFlow numbers as CUDA does: the cards of `CUDA_VISIBLE_DEVICES` in its order, the fastest first unless
`CUDA_DEVICE_ORDER=PCI_BUS_ID`. NVML and nvidia-smi number all of them in the order of the PCI bus.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.devices.nvml import Card, read_cards
from tape_magic.engine.devices.state import DeviceState

VISIBLE = "CUDA_VISIBLE_DEVICES"

_BUS_LENGTH = 32


def cards_of(
    products: Sequence[str | None],
    cards: Sequence[Card],
    environ: Mapping[str, str],
    buses: Sequence[str] | None,
) -> tuple[Card | None, ...]:
    """The card of each GPU, None where it cannot be told.

    `products` are TensorFlow's names of its GPUs in order; `buses` are their places on the PCI bus as CUDA
    tells them, which settle it. Without them it is the order of the environment, as far as the names agree.
    """
    if buses is not None and len(buses) == len(products):
        by_bus = {_normal(card.bus): card for card in cards}
        return tuple(by_bus.get(_normal(bus)) for bus in buses)
    chosen = _in_order(cards, environ.get(VISIBLE))
    if len(chosen) != len(products):
        return (None,) * len(products)
    if all(_same(product, card.product) for product, card in zip(products, chosen, strict=True)):
        return tuple(chosen)
    # the fastest come first, and their names tell which is which where no two are alike
    by_name = {card.product: card for card in chosen}
    alone = len(by_name) == len(chosen)
    return tuple(by_name.get(product or "") if alone else None for product in products)


def _in_order(cards: Sequence[Card], visible: str | None) -> list[Card]:
    """The cards that `CUDA_VISIBLE_DEVICES` names, up to the first entry that is none."""
    if visible is None:
        return list(cards)
    chosen: list[Card] = []
    for word in (entry.strip() for entry in visible.split(",")):
        found = [card for card in cards if _names(word, card)]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen += found
    return chosen


def _names(word: str, card: Card) -> bool:
    if word.isdecimal():
        return int(word) == card.index
    # CUDA takes any beginning of the identifier that only one card has
    return word.startswith("GPU-") and card.uuid.startswith(word)


def _same(product: str | None, name: str) -> bool:
    return product is None or product == name


def _normal(bus: str) -> str:
    """NVML writes the domain with eight digits, CUDA with four."""
    domain, _, rest = bus.strip().lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"


def cuda_buses(load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> tuple[str, ...] | None:
    """The place of each GPU on the PCI bus, in CUDA's order; None where CUDA cannot be asked.

    The driver's own library is asked. TensorFlow has initialised it by listing its devices; this does not,
    and makes no context, so nothing is started and no memory taken.
    """
    try:
        cuda = load("libcuda.so.1")
        count, device = ctypes.c_int(), ctypes.c_int()
        if cuda.cuDeviceGetCount(ctypes.byref(count)):
            return None
        found = []
        for ordinal in range(count.value):
            text = ctypes.create_string_buffer(_BUS_LENGTH)
            if cuda.cuDeviceGet(ctypes.byref(device), ordinal):
                return None
            if cuda.cuDeviceGetPCIBusId(text, _BUS_LENGTH, device):
                return None
            found.append(text.value.decode(errors="replace"))
    except (OSError, AttributeError):
        return None  # no driver, or one that has no such function
    return tuple(found)


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

    def capabilities(self, tf: Any, state: DeviceState) -> tuple[tuple[int, int], ...]:
        """The compute capabilities of the visible GPUs, as far as TensorFlow tells them."""
        details = [tf.config.experimental.get_device_details(gpu) for gpu in state.visible]
        return tuple(detail["compute_capability"] for detail in details if detail.get("compute_capability"))


def locate(tf: Any, state: DeviceState) -> Located:
    """Asks NVML, and finds each GPU among its cards; starts nothing."""
    told = read_cards()
    if told.missing is not None:
        return Located((None,) * len(state.gpus), missing=told.missing)
    products = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in state.gpus]
    cards = cards_of(products, told.cards, os.environ, cuda_buses())
    unseen = () if None in cards else tuple(card for card in told.cards if card not in cards)
    return Located(cards, unseen, told.driver)
