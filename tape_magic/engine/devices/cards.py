"""Matches TensorFlow's GPUs with NVML's cards.

TensorFlow numbers as CUDA does: the cards of `CUDA_VISIBLE_DEVICES` in its order, the fastest first unless
`CUDA_DEVICE_ORDER=PCI_BUS_ID`. NVML and nvidia-smi number all of them in the order of the PCI bus.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.devices.nvml import Card, Cards, read_cards
from tape_magic.engine.devices.state import DeviceState

VISIBLE = "CUDA_VISIBLE_DEVICES"

_BUS_LENGTH = 32


def cards_of(
    products: Sequence[str | None],
    cards: Sequence[Card],
    environ: Mapping[str, str],
    buses: Sequence[str] | None,
) -> tuple[Card | None, ...]:
    """Return the card of each GPU, None where it is not known.

    `products` are TensorFlow's names of its GPUs in order; `buses` are their places on the PCI bus from CUDA,
    which decide. Without `buses`, the order in the environment decides, if the names of the products agree.
    """
    if buses is not None and len(buses) == len(products):
        by_bus = {_normal(card.bus): card for card in cards}
        return tuple(by_bus.get(_normal(bus)) for bus in buses)
    chosen = _in_order(cards, environ.get(VISIBLE))
    if len(chosen) != len(products):
        return (None,) * len(products)
    if all(_same(product, card.product) for product, card in zip(products, chosen, strict=True)):
        return tuple(chosen)
    # CUDA lists the fastest cards first. Their names identify them if no two are alike.
    by_name = {card.product: card for card in chosen}
    unique = len(by_name) == len(chosen)
    return tuple(by_name.get(product or "") if unique else None for product in products)


def _in_order(cards: Sequence[Card], visible: str | None) -> list[Card]:
    """Return the cards that `CUDA_VISIBLE_DEVICES` names, up to the first invalid entry."""
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
    # CUDA takes any beginning of an identifier that is unique among the cards.
    return word.startswith("GPU-") and card.uuid.startswith(word)


def _same(product: str | None, name: str) -> bool:
    return product is None or product == name


def _normal(bus: str) -> str:
    """Return a PCI address in one form, since NVML writes its domain with eight digits and CUDA with four."""
    domain, _, rest = bus.strip().lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"


@dataclass(frozen=True)
class CudaDevice:
    """A GPU as the driver describes it: its place on the PCI bus, and its bytes, None if not told."""

    bus: str
    total: int | None


def cuda_devices(load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> tuple[CudaDevice, ...] | None:
    """Return the GPUs in CUDA's order; None where CUDA cannot be asked.

    The answer comes from the driver's library, which TensorFlow initialised when it listed its devices. No
    context is made here, so that nothing is started and no memory taken.
    """
    try:
        cuda = load("libcuda.so.1")
        count, device, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
        if cuda.cuDeviceGetCount(ctypes.byref(count)):
            return None
        found = []
        for ordinal in range(count.value):
            text = ctypes.create_string_buffer(_BUS_LENGTH)
            if cuda.cuDeviceGet(ctypes.byref(device), ordinal):
                return None
            if cuda.cuDeviceGetPCIBusId(text, _BUS_LENGTH, device):
                return None
            untold = cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
            bus = text.value.decode(errors="replace")
            found.append(CudaDevice(bus, None if untold else total.value))
    except (OSError, AttributeError):
        return None  # no driver, or a driver without these functions
    return tuple(found)


@dataclass(frozen=True)
class CardMatches:
    """The card of each GPU, None where it is not known, with the driver's version.

    `unseen` are the cards that are none of TensorFlow's GPUs; empty where that is not known. `missing` is the
    reason why NVML could not be asked. `cuda` are the GPUs as CUDA knows them; empty where it was not asked.
    """

    cards: tuple[Card | None, ...]
    unseen: tuple[Card, ...] = ()
    driver: str | None = None
    missing: str | None = None
    cuda: tuple[CudaDevice, ...] = ()

    @property
    def totals(self) -> tuple[int | None, ...]:
        """The memory of each GPU in bytes, by NVML or else by CUDA."""
        by_cuda = [device.total for device in self.cuda] or [None] * len(self.cards)
        return tuple(
            total if card is None or card.total is None else card.total
            for card, total in zip(self.cards, by_cuda, strict=True)
        )

    @property
    def unclear(self) -> bool:
        """Whether NVML lists cards that could not all be matched with the GPUs."""
        return self.missing is None and self.driver is not None and None in self.cards

    def capabilities(self, tf: Any, state: DeviceState) -> tuple[tuple[int, int], ...]:
        """Return the compute capabilities of the visible GPUs, as far as TensorFlow knows them."""
        details = [tf.config.experimental.get_device_details(gpu) for gpu in state.visible]
        return tuple(detail["compute_capability"] for detail in details if detail.get("compute_capability"))


def match_cards(tf: Any, state: DeviceState, unsafe: str | None = None) -> CardMatches:
    """Ask NVML for its cards, and match each GPU with one of them; start nothing.

    `unsafe` is the reason why NVML must not be asked in this process, if there is one.
    """
    details = [tf.config.experimental.get_device_details(gpu) for gpu in state.gpus]
    # The GPUs of a plug-in have no compute capability, and CUDA does not know them.
    is_cuda = bool(details) and all(detail.get("compute_capability") for detail in details)
    devices = cuda_devices() if is_cuda else None
    cuda = devices if devices is not None and len(devices) == len(details) else ()
    found = read_cards() if unsafe is None else Cards(missing=unsafe)
    if found.missing is not None:
        return CardMatches((None,) * len(details), missing=found.missing, cuda=cuda)
    buses = [device.bus for device in cuda] or None
    cards = cards_of([detail.get("device_name") for detail in details], found.cards, os.environ, buses)
    unseen = () if None in cards else tuple(card for card in found.cards if card not in cards)
    return CardMatches(cards, unseen, found.driver, cuda=cuda)
