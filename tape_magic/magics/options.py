"""A magic's line → frozen options. The parser, the help and the completion come from one table."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

from tape_magic.errors import LineError, closest
from tape_magic.notation import Kind, place, shorten, split


@dataclass(frozen=True)
class Option:
    """One option of a magic, as its table of options shows it.

    Attributes
    ----------
    flags
        ``("-o",)`` or ``("--wrt",)``; empty for the words without an option.
    help
        One sentence without a full stop.
    metavar
        What stands for the value; empty for a switch.
    convert
        A word → its value; raises ``LineError`` or ``ValueError``.
    many
        Whether several words may stand there.
    choices
        Values offered for completion; the only ones allowed when `closed`.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    many: bool = False
    choices: tuple[str, ...] = ()
    closed: bool = False
    default: Any = None


@dataclass(frozen=True)
class Magic:
    """What a magic is called, does, and takes."""

    name: str
    cell: bool
    summary: str
    options: tuple[Option, ...]
    examples: tuple[tuple[str, str], ...]
    options_class: type = field(default=object)

    @property
    def sign(self) -> str:
        """``%%grad``, or ``%tfgpu``."""
        return f"{'%%' if self.cell else '%'}{self.name}"

    def parse(self, line: str) -> Any:
        """The options of a line. Raises :class:`LineError`, in one sentence."""
        return _parsed(self, line)

    @property
    def help(self) -> str:
        """What ``%%name?`` shows: usage, options, three examples."""
        usage = [self.sign, *(_usage(option) for option in self.options)]
        rows = [(", ".join([*option.flags] or [option.metavar]), option) for option in self.options]
        shown = [(f"{flags} {o.metavar}".rstrip() if o.flags else flags, o.help) for flags, o in rows]
        width = max(len(flags) for flags, _ in shown)
        lines = [self.summary, "", "Usage::", "", f"    {' '.join(usage)}", "", "Options::", ""]
        lines += [f"    {flags:<{width}}  {text}" for flags, text in shown]
        for title, example in self.examples:
            lines += ["", f"{title}::", "", *(f"    {row}" for row in example.splitlines())]
        return "\n".join(lines) + "\n"

    def completions(self, words: Sequence[str], word: str) -> list[str]:
        """What may stand at `word`, after `words`: values of the option before it, or options."""
        before = words[-1] if words else ""
        by_flag = {flag: option for option in self.options for flag in option.flags}
        if before in by_flag and by_flag[before].choices:
            found: Sequence[str] = by_flag[before].choices
        elif word.startswith("-"):
            found = [flag for flag in by_flag if flag not in words]
        else:
            found = []
        return [candidate for candidate in found if candidate.startswith(word)]


@lru_cache(maxsize=256)
def _parsed(magic: Magic, line: str) -> Any:
    # Kept, since making argparse's parser takes longer than a small tape; options are frozen.
    parser = _Parser(prog=magic.sign, add_help=False, allow_abbrev=False)
    for option in magic.options:
        parser.add(option)
    values = vars(parser.parse_args([_guarded(word) for word in split(line)]))
    return magic.options_class(**values)


def _usage(option: Option) -> str:
    more = " ..." if option.many else ""
    if not option.flags:
        return f"[{option.metavar}{more}]"
    return f"[{' '.join([option.flags[0], option.metavar]).rstrip()}{more}]"


_ESCAPE = "\0"


def _guarded(word: str) -> str:
    """A word that begins with a minus but is no option (``-0.1``) must not look like one."""
    return word if word.startswith("-") else _ESCAPE + word


class _Parser(argparse.ArgumentParser):
    """``argparse`` with our errors: one sentence, and the closest option."""

    def add(self, option: Option) -> None:
        names = option.flags or (option.name,)
        if option.flags and not option.metavar:
            self.add_argument(*names, dest=option.name, action="store_true")
            return
        arguments: dict[str, Any] = {"type": _converter(option), "default": option.default}
        if option.flags:
            arguments |= {"dest": option.name, "nargs": "+" if option.many else None}
        else:
            arguments["nargs"] = "*"
        if option.many or not option.flags:
            arguments["action"] = _Collect
        self.add_argument(*names, **arguments)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            word = unknown[0].removeprefix(_ESCAPE)
            if word.startswith("-"):
                word = word.partition("=")[0]
                raise LineError(f"{self.prog} has no option {shorten(word)}{closest(word, _spelled(flags))}")
            raise LineError(
                f"{self.prog} cannot place {shorten(word)!r} on its line; {self.prog}? shows the options"
            )
        return known

    def error(self, message: str) -> NoReturn:
        raise LineError(message.replace(_ESCAPE, "").replace("argument ", "", 1))


def _spelled(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("--")]


class _Collect(argparse.Action):
    """Words given in several places of the line are one tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest) or ()
        setattr(namespace, self.dest, (*before, *values))


def _converter(option: Option) -> Callable[[str], Any]:
    label = option.flags[-1] if option.flags else option.metavar

    def convert(word: str) -> Any:
        word = word.removeprefix(_ESCAPE)
        if option.closed and word not in option.choices:
            known = ", ".join(option.choices)
            raise LineError(f"{label} {shorten(word)} is none of {known}{closest(word, option.choices)}")
        try:
            return option.convert(word)
        except ValueError:
            raise LineError(f"{label} takes {option.metavar}, not {shorten(word)!r}") from None

    return convert


def _identifier(word: str) -> str:
    if not word.isidentifier():
        raise LineError(f"{shorten(word)!r} is not a name that a result can be bound to.")
    return word


def _place(word: str) -> str:
    place(word)
    return word


def _assignment(flag: str) -> Callable[[str], tuple[str, str]]:
    """``x=v``: a source, and the expression of a vector of the notebook."""

    def convert(word: str) -> tuple[str, str]:
        name, sign, text = word.partition("=")
        if not sign or not text.strip():
            raise LineError(f"{flag} takes NAME=V, such as {flag} x=v, not {shorten(word)!r}.")
        place(name)
        return name, text

    return convert


def _rate(word: str) -> float:
    rate = float(word)
    if not (rate > 0 and math.isfinite(rate)):
        raise LineError(f"--lr {word} is no learning rate; give a number above 0.")
    return rate


def _whole(least: int, flag: str) -> Callable[[str], int]:
    def convert(word: str) -> int:
        number = int(word.replace("_", ""))
        if number < least:
            raise LineError(f"{flag} {word} is too small; the least is {least}.")
        return number

    return convert


@dataclass(frozen=True)
class GradOptions:
    """The line of ``%%grad``."""

    targets: tuple[str, ...]
    wrt: tuple[str, ...] | None
    order: int | None
    jacobian: bool
    batch_jacobian: bool
    hessian: bool
    jvp: tuple[tuple[str, str], ...] | None
    hvp: tuple[tuple[str, str], ...] | None
    check: bool
    zero: bool
    define: str | None
    inspect: bool
    name: str | None
    quiet: bool

    def __post_init__(self) -> None:
        chosen = [flag for flag, value in self._kinds if value]
        if len(chosen) > 1:
            raise LineError(f"{chosen[0]} and {chosen[1]} are different things; write two cells.")
        named = [word for word in self.targets if "/" in word]
        if self.wrt and named and len(named) == len(self.targets):
            raise LineError(
                f"{shorten(named[0])} says what to differentiate by; leave out --wrt, or the denominator."
            )
        if self.order is not None and named:
            raise LineError(f"{shorten(named[0])} says its order; leave out --order, or the denominator.")
        reporting = ("--check", self.check), ("--inspect", self.inspect), ("-o", self.name)
        idle = [flag for flag, value in reporting if value]
        if self.define is not None and idle:
            raise LineError(f"--def makes a function, and nothing runs to report on: leave out {idle[0]}.")
        if self.jvp and self.wrt:
            raise LineError("--jvp says what to differentiate by; leave out --wrt.")
        sources = [name for name, _ in self.vectors]
        twice = next((name for name in sources if sources.count(name) > 1), None)
        if twice is not None:
            raise LineError(f"{chosen[0]} gives two vectors for {shorten(twice)}; give their sum.")

    @property
    def _kinds(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("--jacobian", self.jacobian),
            ("--batch-jacobian", self.batch_jacobian),
            ("--hessian", self.hessian),
            ("--jvp", self.jvp),
            ("--hvp", self.hvp),
        )

    @property
    def kind(self) -> Kind:
        """What is to be computed."""
        chosen = next((flag for flag, value in self._kinds if value), "--gradient")
        return Kind(chosen[2:].replace("-", " "))

    @property
    def vectors(self) -> tuple[tuple[str, str], ...]:
        """What a product is taken with: each source with the expression of its vector."""
        return self.jvp or self.hvp or ()


@dataclass(frozen=True)
class MinimizeOptions:
    """The line of ``%%minimize``."""

    loss: tuple[str, ...]
    over: tuple[str, ...] | None
    optimizer: str
    lr: float | None
    steps: int
    engine: str
    seed: int | None
    name: str | None
    quiet: bool

    def __post_init__(self) -> None:
        if len(self.loss) > 1:
            raise LineError(
                f"there can be one loss only, not {len(self.loss)}: {shorten(', '.join(self.loss))}"
            )


@dataclass(frozen=True)
class DeviceOptions:
    """The line of ``%tfgpu``."""

    indices: tuple[int, ...] | None
    growth: bool
    limit: str | None
    cpu: bool
    split: int | None
    require: bool
    name: str | None
    quiet: bool


def _index(word: str) -> int:
    if not word.isdecimal():
        raise LineError(f"{shorten(word)!r} is not the index of a GPU; give numbers such as 0 or 0,1.")
    return int(word)


_QUIET = Option("quiet", ("-q",), "shows nothing")
_NAME = Option("name", ("-o",), "the name that the report is bound to", "NAME", _identifier)

GRAD = Magic(
    "grad",
    cell=True,
    summary="Run the cell under a gradient tape and report derivatives of what it computes.",
    options=(
        Option(
            "targets",
            (),
            "y, dy/dx, d2y/dx2, d2y/dx da, ∂y/∂x or ∇loss; without any, the last expression",
            "TARGET",
            many=True,
        ),
        Option(
            "wrt",
            ("--wrt",),
            "what to differentiate by, where the target does not say",
            "NAME",
            _place,
            many=True,
        ),
        Option(
            "order",
            ("--order",),
            "order of the derivative, where the target does not say",
            "N",
            _whole(1, "--order"),
        ),
        Option("jacobian", ("--jacobian",), "each element of an output by each of a source, nothing summed"),
        Option("batch_jacobian", ("--batch-jacobian",), "the same for each row of a batch by itself"),
        Option("hessian", ("--hessian",), "all second derivatives, with eigenvalues and what they say"),
        Option(
            "jvp",
            ("--jvp",),
            "the Jacobian times a vector, in forward mode",
            "NAME=V",
            _assignment("--jvp"),
            many=True,
        ),
        Option(
            "hvp",
            ("--hvp",),
            "the Hessian times a vector, without the Hessian",
            "NAME=V",
            _assignment("--hvp"),
            many=True,
        ),
        Option("check", ("--check",), "compares with central differences, and says how far off it is"),
        Option("zero", ("--zero",), "zeros instead of None where there is no connection"),
        Option(
            "define",
            ("--def",),
            "does not run the cell, but makes a compiled function of it",
            "NAME",
            _identifier,
        ),
        Option("inspect", ("--inspect",), "opens the report in a browser of widgets"),
        _NAME,
        _QUIET,
    ),
    examples=(
        (
            "Two derivatives, left in the notebook as dy_dx and d2y_dx2",
            "%%grad dy/dx, d2y/dx2\ny = a*x**2 + b*x + c",
        ),
        (
            "By everything that a model learns",
            "%%grad loss --wrt model\nloss = loss_fn(labels, model(images))",
        ),
        ("By an input that the cell itself assigns", "%%grad dy/dx\nx = 3.0\ny = tf.sin(x)"),
    ),
    options_class=GradOptions,
)

MINIMIZE = Magic(
    "minimize",
    cell=True,
    summary="Minimise the loss that the cell computes, compiled.",
    options=(
        Option("loss", (), "a name that the cell assigns; without it, the last expression", "LOSS", _place),
        Option(
            "over",
            ("--over",),
            "what to minimise over; without it, the trainable variables that the cell reads",
            "NAME",
            _place,
            many=True,
        ),
        Option(
            "optimizer",
            ("--optimizer",),
            "a Keras name, an optimizer of the notebook, or an expression",
            "NAME|EXPR",
            choices=(
                "adadelta",
                "adafactor",
                "adagrad",
                "adam",
                "adamax",
                "adamw",
                "ftrl",
                "lamb",
                "lion",
                "muon",
                "nadam",
                "rmsprop",
                "sgd",
            ),
            default="adam",
        ),
        Option("lr", ("--lr",), "learning rate, with an optimizer's name", "RATE", _rate),
        Option(
            "steps",
            ("--steps",),
            "how many steps at the most (1000)",
            "N",
            _whole(0, "--steps"),
            default=1000,
        ),
        Option(
            "engine",
            ("--engine",),
            "what runs the loop; auto takes the fastest that can",
            "NAME",
            choices=("auto", "xla", "graph", "eager"),
            closed=True,
            default="auto",
        ),
        Option(
            "seed",
            ("--seed",),
            "seeds the random numbers, so that two runs are the same",
            "N",
            _whole(0, "--seed"),
        ),
        _NAME,
        _QUIET,
    ),
    examples=(
        ("A parabola", "%%minimize y --over x --optimizer sgd --lr 0.01 --steps 1000\ny = a*x**2 + b*x + c"),
        ("A model", "%%minimize --over model --lr 1e-3\ntf.reduce_mean((model(inputs) - targets)**2)"),
        (
            "An optimizer with its settings",
            '%%minimize loss --optimizer "tf.keras.optimizers.SGD(0.01, momentum=0.9)"\n'
            "loss = tf.reduce_sum(w**2)",
        ),
    ),
    options_class=MinimizeOptions,
)

TFGPU = Magic(
    "tfgpu",
    cell=False,
    summary="Show the devices that TensorFlow can use, or choose among them.",
    options=(
        Option("indices", (), "GPUs to use, by number; the others are hidden", "INDEX", _index, many=True),
        Option("growth", ("--growth",), "memory is taken as it is needed"),
        Option("limit", ("--limit",), "memory is capped: 4G, 512M, or a share such as 0.5 or 50%", "SIZE"),
        Option("cpu", ("--cpu",), "hide every GPU"),
        Option("split", ("--split",), "with --cpu: this many logical CPUs", "N", int),
        Option("require", ("--require",), "without a GPU, stop with an error"),
        _NAME,
        _QUIET,
    ),
    examples=(
        ("What there is", "%tfgpu"),
        ("The first GPU only, memory as needed", "%tfgpu 0 --growth"),
        ("Four logical CPUs, to try a distribution strategy", "%tfgpu --cpu --split 4"),
    ),
    options_class=DeviceOptions,
)

MAGICS = (GRAD, MINIMIZE, TFGPU)
