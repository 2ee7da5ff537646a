"""From NVML's cards to TensorFlow's GPUs, and from a card to who holds its memory."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tape_magic.engine.devices.cards import CardMatches, CudaDevice, cards_of, cuda_devices
from tape_magic.engine.devices.host import holders
from tape_magic.engine.devices.nvml import Card, CardProcess, read_cards
from tests.support.stub_nvml import StubCard, pynvml


def card(index: int, product: str = "T4") -> Card:
    return Card(index, f"GPU-{index}a7", f"0000000{index}:0B:00.0", product, 16, 4, None, None, ())


def numbers(found: tuple[Card | None, ...]) -> list[int | None]:
    return [None if one is None else one.index for one in found]


THREE = [card(0), card(1), card(2)]
MIXED = [card(0, "T4"), card(1, "H200"), card(2, "A100")]


@pytest.mark.parametrize(
    ("products", "cards", "environ", "buses", "expected"),
    [
        (["T4"] * 3, THREE, {}, None, [0, 1, 2]),
        (["T4", "T4"], THREE, {"CUDA_VISIBLE_DEVICES": "2,0"}, None, [2, 0]),
        (["T4", "T4"], THREE, {"CUDA_VISIBLE_DEVICES": " 2 , 1 ,-1,0"}, None, [2, 1]),
        (["T4"], THREE, {"CUDA_VISIBLE_DEVICES": "GPU-1a"}, None, [1]),
        (["T4"], THREE, {"CUDA_VISIBLE_DEVICES": "GPU-"}, None, [None]),  # three of them begin so
        (["T4", "T4"], THREE, {"CUDA_VISIBLE_DEVICES": "0"}, None, [None, None]),
        (["T4", "T4"], THREE, {}, None, [None, None]),
        # the fastest come first, which the names tell
        (["H200", "A100", "T4"], MIXED, {}, None, [1, 2, 0]),
        (["H200", "T4", "T4"], [card(0), card(1), card(2, "H200")], {}, None, [None, None, None]),
        ([None, None, None], THREE, {}, None, [0, 1, 2]),
        # the places on the bus settle it, however they are written
        (["T4", "T4"], THREE, {}, ("0002:0b:00.0", "0000:0b:00.0"), [2, 0]),
        (["T4"], THREE, {}, ("0007:0b:00.0",), [None]),
        ([], THREE, {"CUDA_VISIBLE_DEVICES": "-1"}, (), []),
    ],
)
def test_which_card_a_gpu_is(
    products: list[str | None],
    cards: list[Card],
    environ: dict[str, str],
    buses: tuple[str, ...] | None,
    expected: list[int | None],
) -> None:
    assert numbers(cards_of(products, cards, environ, buses)) == expected


class StubCuda:
    """The driver's functions that tell the places of its devices; `code` is what counting returns."""

    def __init__(self, places: list[bytes], code: int = 0, untold: int = 0) -> None:
        self.places, self.code, self.untold = places, code, untold

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.places)
        return self.code

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 40 + ordinal
        return 0

    def cuDeviceGetPCIBusId(self, text: Any, length: int, device: ctypes.c_int) -> int:
        text.value = self.places[device.value - 40]
        return 0

    def cuDeviceTotalMem_v2(self, total: Any, device: ctypes.c_int) -> int:
        total._obj.value = 2**33 * (device.value - 39)
        return self.untold


def test_devices_with_a_stub_of_the_driver() -> None:
    places = [b"0000:65:00.0", b"0000:17:00.0"]
    assert cuda_devices(lambda name: StubCuda(places)) == (
        CudaDevice("0000:65:00.0", 2**33),
        CudaDevice("0000:17:00.0", 2**34),
    )
    assert cuda_devices(lambda name: StubCuda(places[:1], untold=1)) == (CudaDevice("0000:65:00.0", None),)
    assert cuda_devices(lambda name: StubCuda(places, code=3)) is None  # not initialised, and left so
    assert cuda_devices(lambda name: object()) is None

    def missing(name: str) -> Any:
        raise OSError(name)

    assert cuda_devices(missing) is None


def test_the_memory_of_a_gpu_by_nvml_or_else_by_cuda() -> None:
    cuda = (CudaDevice("a", 8), CudaDevice("b", None))
    assert CardMatches((None, None)).totals == (None, None)
    assert CardMatches((None, None), cuda=cuda).totals == (8, None)
    assert CardMatches((card(0), None), cuda=cuda).totals == (16, None)
    assert CardMatches((replace(card(0), total=None), card(1)), cuda=cuda).totals == (8, 16)


def process(proc: Path, pid: int, command: list[bytes], *environ: bytes) -> None:
    """Write the files of a process as Linux has them, as far as psutil reads them."""
    (proc / str(pid)).mkdir()
    # proc_pid_stat(5): the number, the name, the state, and the time of the start as the 22nd field
    (proc / str(pid) / "stat").write_text(f"{pid} (some name) S{' 0' * 18} 100{' 0' * 30}\n")
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join([*command, b""]))
    (proc / str(pid) / "environ").write_bytes(b"\0".join([*environ, b""]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a made-up /proc")
def test_who_holds_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = [b"/usr/bin/python3.11", b"-Xfrozen_modules=off", b"-m", b"ipykernel_launcher", b"-f", b"k.json"]
    (tmp_path / "stat").write_text("cpu  1 0 0 1 0 0 0 0 0 0\nbtime 1700000000\n")
    process(tmp_path, 10, kernel, b"HOME=/home/user", b"JPY_SESSION_NAME=/srv/train big.ipynb")
    process(tmp_path, 11, kernel, b"JPY_SESSION_NAME=1b2c-console")
    process(tmp_path, 12, [b"python", b"-u", b"/srv/train.py", b"--epochs", b"3"])
    process(tmp_path, 13, [b"/usr/bin/blend\xff", b"scene"])
    process(tmp_path, 14, [b"python3", b"-c", b"import tensorflow"])
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    pids = [(10, 5), (10, 5), (11, 50), (12, None), (13, 7), (14, 1), (15, 2)]
    found = holders([CardProcess(*one) for one in pids])
    assert [holder.text for holder in found] == [
        "process 11, ipykernel_launcher",
        "process 13, blend\ufffd",
        "the notebook train big.ipynb (process 10)",
        "process 15",  # gone, or another user's
        "process 14, python3",
        "process 12, train.py",
    ]
    assert found[0].memory == 50


def test_this_process_is_known() -> None:
    (one,) = holders([CardProcess(os.getpid(), 1)])
    assert one.here
    assert one.text == f"this kernel (process {os.getpid()})"


def test_cards_with_a_stub_of_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pynvml(StubCard("T4", total=16, used=4, load=50), StubCard(load=None, processes=[(7, None)]))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    told = read_cards()
    assert told.driver == "580.159.03"
    assert [one.free for one in told.cards] == [12, 64 * 2**20]
    assert [one.load for one in told.cards] == [0.5, None]
    assert told.cards[1].processes == (CardProcess(7, None),)
    assert module.opened == 0

    # what the driver keeps for itself is neither used nor free, if it is told apart
    for old, used in ((False, 4), (True, 6)):
        kept = pynvml(StubCard(total=16, used=4, reserved=2), old=old)
        monkeypatch.setitem(sys.modules, "pynvml", kept)
        (one,) = read_cards().cards
        assert (one.used, one.free) == (used, 10)
    monkeypatch.setitem(sys.modules, "pynvml", module)

    # old versions answer in bytes
    module.nvmlSystemGetDriverVersion = lambda: b"470"
    module.nvmlDeviceGetName = lambda handle: b"T4"
    told = read_cards()
    assert (told.driver, told.cards[0].product) == ("470", "T4")

    monkeypatch.setitem(sys.modules, "pynvml", pynvml(broken="Driver Not Loaded"))
    assert read_cards().missing == "NVML says: Driver Not Loaded"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py is not installed" in str(read_cards().missing)
