"""What must hold for any text on a magic's line: a valid plan or one sentence, within bounded time."""

from __future__ import annotations

import inspect
import keyword
import math
import time
from collections.abc import Callable
from typing import Any

from tape_magic.display.content.width import clean
from tape_magic.engine.api.devices import devices
from tape_magic.engine.devices.request import DeviceRequest, read_request
from tape_magic.engine.devices.settings import read_settings
from tape_magic.engine.devices.workers import read_wait, read_workers
from tape_magic.errors import TapeMagicError, shorten
from tape_magic.magics.completion import NamesOffered, candidates
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.line.tfgpu import TFGPU, DeviceOptions
from tape_magic.notation import MAX_ORDER, read_targets
from tape_magic.syntax import place

SECONDS = 2.0
"""Of the processor's time that a line may take, also where each branch is counted."""

NAMES = ("", "x", "xa", "xayd", None)
"""The names that there are, each of one letter; ``None`` for whatever name is asked for."""


def judge_bytes(data: bytes) -> None:
    """The first byte chooses the magic and the names that there are; the rest is the line."""
    choice = data[0] if data else 0
    line = data[1:].decode("utf-8", "surrogateescape")
    names = NAMES[choice // len(MAGICS) % len(NAMES)]
    judge(MAGICS[choice % len(MAGICS)], line, lambda name: names is None or name in names)


def judge(magic: Magic, line: str, exists: Callable[[str], bool]) -> None:
    """Raise ``AssertionError``, or whatever a fault raises."""
    started = time.process_time()
    try:
        plan = _planned(magic, line, exists)
    except TapeMagicError as error:
        plan = None
        _is_one_sentence(str(error))
    if plan is not None:
        _is_valid(magic, plan)
    _completes(f"{magic.sign} {line}")
    seconds = time.process_time() - started
    assert seconds < SECONDS, f"{seconds:.1f} s for a line of {len(line)} characters"


def _planned(magic: Magic, line: str, exists: Callable[[str], bool]) -> Any:
    options = magic.parse(line)
    if magic is GRAD:
        return options, read_targets(options.targets, exists)
    return options, _asked(options) if magic is TFGPU else None


def _asked(options: DeviceOptions) -> DeviceRequest:
    """What the devices are asked for, before TensorFlow is looked at."""
    named = {
        name: parameter.default
        for name, parameter in inspect.signature(devices).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    } | options.arguments
    words = ("allocator", "precision", "deterministic", "placement", "seed")
    settings = read_settings(**{word: named.pop(word) for word in words})
    workers, wait = read_workers(named.pop("workers"), named.pop("worker")), named.pop("wait")
    read_wait(wait, 60)
    return read_request(options.gpus, settings=settings, workers=workers, **named)


def _is_one_sentence(said: str) -> None:
    assert said.strip(), "refused without a word"
    shown = shorten(clean(said), 1000)  # as the shell does
    assert len(shown.splitlines()) == 1, repr(shown)
    assert "\n" not in said, repr(said)
    assert len(said) < 600, f"{len(said)} characters: {said[:200]!r}"


def _is_valid(magic: Magic, plan: tuple[Any, Any]) -> None:
    options, read = plan
    assert isinstance(options, magic.options_class)
    hash(options)
    for name in (options.name, getattr(options, "define", None)):
        assert name is None or (name.isidentifier() and not keyword.iskeyword(name)), name
    if magic is GRAD:
        _is_valid_grad(options, read)
    elif magic is MINIMIZE:
        _is_valid_minimize(options)
    else:
        _reads_back(read)


def _is_valid_grad(options: Any, targets: tuple[Any, ...]) -> None:
    for name in options.arguments.get("wrt", ()):
        place(name)
    for name, text in options.vectors:
        place(name)
        assert text.strip()
    assert options.kind
    for target in targets:
        assert 0 <= target.order <= MAX_ORDER
        for name in (target.name, *target.wrt):
            place(name)
        assert target.binding.isidentifier(), target.binding
        for shown in (target.label, target.key):  # a subscript may be any text
            assert len(clean(shown).splitlines()) == 1, repr(shown)


def _is_valid_minimize(options: Any) -> None:
    given = options.arguments
    for name in (*options.loss, *(options.over or ()), *given.get("track", ())):
        place(name)
    for name, low, high in given.get("bounds", ()):
        place(name)
        assert low or high
    for name in ("lr", "tol", "gtol", "target", "time", "steps", "patience", "batch", "epochs", "seed"):
        assert math.isfinite(given.get(name, 0))
    assert given.get("steps", 0) >= 0
    assert given.get("time", 0) >= 0
    assert given.get("lr", 1) > 0
    if "data" in given:
        assert given["data"].names
        assert all(name.isidentifier() for name in given["data"].names)
        compile(given["data"].data, "<data>", "eval")


def _reads_back(asked: DeviceRequest) -> None:
    """The line that a refusal tells the user to put first asks for the same."""
    again = _asked(TFGPU.parse(asked.line.removeprefix("%tfgpu")))
    assert again.line == asked.line
    assert (again.indices, again.freest, again.split) == (asked.indices, asked.freest, asked.split)
    assert again.settings == asked.settings
    assert (again.limit and again.limit.bytes) == (asked.limit and asked.limit.bytes)


def _completes(text: str) -> None:
    for end in {len(text), len(text) // 2}:
        word, found = candidates(text[:end], NamesOffered({}, text))
        assert text[:end].endswith(word)
        assert all(one.startswith(word) for one in found)
