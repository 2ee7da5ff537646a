"""The text of each kind of report, character by character."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tape_magic.display.content.document import Curve, Table, Verdict
from tape_magic.display.content.width import clean, width
from tape_magic.display.describe import describe
from tape_magic.display.text.columns import blocks
from tape_magic.display.text.render import NARROWEST, WIDEST, WIDTH, to_text
from tape_magic.results.devices import Device, Holder, Policy, PolicyKind, SetupOutcome
from tape_magic.results.minimum import StopReason
from tape_magic.results.reasons import Cause, Reason
from tests.support.reports import (
    HOSTILE,
    change,
    derivative,
    diverged,
    gpu,
    gradients,
    hostile_reports,
    machine,
    minimum,
)

CUT = Reason(Cause.CUT, "cut at ArgMax, line 2: i = tf.argmax(p)")
LONG_CUT = Reason(Cause.CUT, "cut at " + "x" * 90)


def lines_of(report: object) -> list[str]:
    """The lines, with plain spaces where narrow ones stand between numbers and units."""
    return to_text(describe(report)).replace("\u202f", " ").splitlines()


def test_derivatives_of_a_parabola():
    report = gradients(
        derivative("y", "x", value=-2.0),
        derivative("y", "x", "x", value=2.0),
        derivative("y", "a", value=0.0),
        derivative("y", "k", value=None, connected=False),
        derivative(
            "y",
            "p",
            value=None,
            connected=False,
            reason=CUT,
        ),
    )
    assert lines_of(report) == [
        "derivative  value",
        "∂y/∂x          −2",
        "∂²y/∂x²         2",
        "∂y/∂a           0",
        "∂y/∂k        none",
        "∂y/∂p        none  cut at ArgMax, line 2: i = tf.argmax(p)",
        "forward 1.2 ms · backward 2.0 ms",
    ]


def test_what_was_tracked_has_its_start_its_end_and_a_small_curve():
    steps = np.arange(4)
    report = minimum(
        [3.0, 2.0, 1.0, 0.5],
        {"x": change(0.0, 1.0)},
        tracked={
            "worst": np.array([8.0, 4.0, 2.0, 1.0]),
            "flat": np.ones(4),
            "broken": np.array([1.0, np.nan]),
        },
        tracked_steps={"worst": steps, "flat": steps, "broken": np.arange(2)},
    )
    assert lines_of(report)[-4:] == [
        "tracked  start  end",
        "worst        8    1  █▇▆▆▅▄▄▃▃▂▂▂▂▁▁▁",
        "flat         1    1",
        "broken       1  nan",
    ]


def test_a_small_curve_goes_by_steps_and_not_by_points():
    tracked, steps = {"early": np.array([0.0, 1.0, 2.0, 3.0, 3.0])}, {"early": np.array([0, 1, 2, 3, 1000])}
    report = minimum([3.0, 2.0, 1.0], {}, tracked=tracked, tracked_steps=steps)
    assert lines_of(report)[-1] == "early        0    3  ▁███████████████"


def test_the_start_of_a_small_array_is_told_from_its_end():
    report = minimum([3.0, 2.0], {"A": change([0.1234561, 2.0], [0.1234567, 3.0])})
    assert lines_of(report)[-1] == "A (2)     [0.123456, 2]  [0.123457, 3]         0"


def test_norms_near_a_whole_number_have_no_more_digits_than_others():
    """√(1 + 0.0084) is 1.0042, which three digits say as 1.00, and √(3² + 0.001²) is 3.0000002."""
    rows = [
        derivative("loss", "a/kernel", value=[1.0, 0.0917], of_model=True),
        derivative("loss", "b/kernel", value=[0.282, 0.0], of_model=True),
    ]
    assert [line.split()[2] for line in lines_of(gradients(*rows))[1:3]] == ["1.00", "0.282"]
    lines = lines_of(gradients(derivative("y", "w", value=[3.0, 0.001] + [0.0] * 8)))
    assert "norm 3.000 " in lines[1]


def test_small_arrays_are_shown_whole():
    report = gradients(
        derivative("y", "v", value=[1.5, -0.25]),
        derivative("y", "M", value=[[4, -3], [-2, 1]]),
        derivative("y", "z", value=2 + 4j, dtype="complex64"),
        derivative("y", "e", value=np.zeros((0, 3))),
    )
    assert lines_of(report)[1:5] == [
        "∂y/∂v             [1.5, −0.25]",
        "∂y/∂M       [[4, −3], [−2, 1]]",
        "∂y/∂z                   2 + 4j",
        "∂y/∂e                       []",
    ]


def test_a_large_array_is_its_norm_histogram_and_range():
    value = [3.0, 4.0] + [0.0] * 98
    report = gradients(derivative("y", "w", value=value, sums=(201,)))
    assert lines_of(report) == [
        "derivative     value",
        "∂Σy/∂w (100)  norm 5  █▁▁▁▁▁▁▁▁▁▁▁  0 to 4 · 98 % zeros · sum of 201 outputs",
        "float32 · forward 1.2 ms · backward 2.0 ms",
    ]


def test_arrays_of_different_types_say_theirs():
    report = gradients(
        derivative("y", "u", value=np.full(9, 2.0)),
        derivative("y", "v", value=np.full(9, 3.0), dtype="float64"),
    )
    assert lines_of(report) == [
        "derivative   value",
        "∂y/∂u (9)   norm 6  all 2 · float32",
        "∂y/∂v (9)   norm 9  all 3 · float64",
        "forward 1.2 ms · backward 2.0 ms",
    ]


def test_a_model_has_a_row_for_each_variable():
    kernel = np.tile([1.0, -1.0], 32).reshape(8, 8)  # norm 8
    report = gradients(
        derivative("loss", "dense/kernel", value=kernel, of_model=True),
        derivative("loss", "dense/bias", value=np.zeros(8), of_model=True),
    )
    assert lines_of(report) == [
        "1 of 2 gradients is all zero: dense/bias",
        "variable      shape  norm              zeros  values",
        "dense/kernel    8×8     8  ━━━━━━━━━━    0 %  █▁▁▁▁▁▁▁▁▁▁█",
        "dense/bias        8     0              100 %",
        "∇loss over 72 parameters · float32 · bars over 4 decades · forward 1.2 ms ·",
        "  backward 2.0 ms",
    ]


def test_what_is_wrong_comes_before_the_order_of_a_model():
    rows = [derivative("loss", f"v{i}", value=np.ones(8), of_model=True) for i in range(30)]
    rows[25] = derivative("loss", "dead", value=np.zeros(8), of_model=True)
    rows[26] = derivative("loss", "missing", value=None, connected=False, of_model=True)
    rows[27] = derivative("loss", "broken", value=np.full(8, np.nan), of_model=True)
    names = [line.split()[0] for line in lines_of(gradients(*rows))[2:6]]
    assert names == ["broken", "missing", "dead", "v0"]


def test_one_gradient_is_not_counted():
    assert lines_of(gradients(derivative("y", "x", value=np.nan)))[0] == "the gradient is not finite"
    second = derivative("y", "x", "x", value=np.nan)
    assert lines_of(gradients(second))[0] == "the derivative is not finite"


def test_what_is_not_finite_is_said_first():
    report = gradients(derivative("y", "x", value=[1.0, np.nan]), derivative("y", "a", value=-np.inf))
    assert lines_of(report)[:3] == [
        "2 of 2 gradients are not finite",
        "derivative     value",
        "∂y/∂x       [1, nan]",
    ]
    assert lines_of(report)[3].endswith("−inf")


def test_a_run_to_its_step_limit():
    report = minimum([1.0, 0.5, 0.25, 0.125], {"x": change(0.0, 0.99999857, 2.861e-6)})
    assert lines_of(report) == [
        "y = 0.125 at step 3 · step limit · 0.19 s, of it compiling 0.18 s · XLA ·",
        "  SGD(0.01)",
        "1 █▄▂▁ 0.125",
        "variable  start        end  gradient",
        "x             0  0.9999986    2.9e−6",
    ]


def test_a_loss_that_ends_at_zero_keeps_its_logarithmic_axis():
    report = minimum([1.0, 0.1, 0.01, 0.001, 0.0], {"x": change(0.0, 1.0)})
    assert lines_of(report)[1] == "1 █▆▃▁ 0 (logarithmic)"
    report = minimum([1.0, 0.1, 0.01, 0.001, *[0.0] * 900], {"x": change(0.0, 1.0)})
    assert lines_of(report)[2] == "1 █▆▃▁ 0 from step 4 on (logarithmic)"


def test_a_run_that_diverged():
    assert lines_of(diverged()) == [
        "diverged at step 812: the loss became inf ·",
        "  put back to the last finite values, step 811 · try a rate below 0.01",
        "1 ▁▂▅█ 100,000 (logarithmic)",
        "variable    start          end  gradient",
        "w (100×1)  norm 0  norm 3.1e37    8.8e37",
        "b               0      −1.2e36      4e36",
    ]


@pytest.mark.parametrize(
    ("values_of", "said"),
    [
        (0, "put back to the best, step 0"),
        (811, "put back to the last finite values, step 811"),
        (640, "put back to the best that was kept, step 640"),
    ],
)
def test_a_run_that_diverged_says_what_was_put_back(values_of: int, said: str):
    report = diverged()
    lost = replace(report.divergence, values_of=values_of)
    assert said in " ".join(lines_of(replace(report, divergence=lost))[:2])


def test_a_run_that_was_interrupted():
    report = minimum([4.0, 2.0, 3.0], {"x": change(1.0, 2.0)}, reason=StopReason.INTERRUPTED)
    assert lines_of(report)[0] == "y = 3 at step 2 · best 2 at step 1 · interrupted ·"
    assert describe(report).first(Verdict).tone.value == "plain"  # an end, and no success


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"reason": StopReason.STOPPED},
            "stopped before the first step: y = 4 · all variables are at their start values ·"
            " run it again to begin · 0.19 s, of it compiling 0.18 s",
        ),
        (
            {"reason": StopReason.INTERRUPTED, "engine": "eager"},
            "interrupted before the first step: y = 4 · all variables are at their start values ·"
            " run it again to begin · 0.19 s",
        ),
        (
            {"reason": StopReason.STOPPED, "first_step": 300, "steps": 300, "engine": "eager"},
            "stopped before the first step of this run: y = 4 · all variables are at their start values ·"
            " run it again to go on",
        ),
        # a limit of no steps, and a start that is the target, are what was asked for
        ({"reason": StopReason.STEPS, "engine": "eager"}, "y = 4 at step 0 · step limit · 0.19 s · eager ·"),
        (
            {"reason": StopReason.TARGET, "engine": "eager"},
            "y = 4 at step 0 · target reached · 0.19 s · eager",
        ),
    ],
)
def test_a_run_that_took_no_step(facts, said):
    shown = " ".join(" ".join(lines_of(minimum([4.0], {"x": change(1.0, 1.0)}, **facts))).split())
    assert shown.startswith(said)


def test_a_run_without_a_step_whose_variables_moved_is_not_said_to_have_left_them():
    facts = {"reason": StopReason.STOPPED, "first_step": 300, "steps": 300}
    shown = " ".join(" ".join(lines_of(minimum([4.0], {"x": change(1.0, 2.0)}, **facts))).split())
    assert "no step was applied · run it again to go on" in shown
    assert "start values" not in shown


def test_a_loss_that_rose():
    report = minimum(
        [2.69, 50.0, 121.7], {"x": change(1.0, 2.0)}, engine="eager", engine_reason="line 2 prints"
    )
    assert lines_of(report) == [
        "y = 121.7 at step 2 · above the start, 2.69 · step limit · 0.19 s · eager ·",
        "  SGD(0.01)",
        "2.69 ▁▄█ 121.7",
        "variable  start  end  gradient",
        "x             1    2         0",
        "eager: line 2 prints",
    ]


def test_a_constant_loss_has_no_curve():
    assert describe(minimum([2.0] * 9, {"x": change(1.0, 1.0)})).first(Curve) is None


def test_many_variables_are_folded():
    report = minimum([3.0, 2.0], {f"w{i}": change(0.0, 1.0) for i in range(27)})
    assert lines_of(report)[-1] == "… 7 more"
    assert sum(line.startswith("w") for line in lines_of(report)) == 20


def test_of_many_derivatives_those_that_are_missing_are_shown():
    unread = Reason(Cause.NOT_READ, "y does not read it")
    rows = [derivative("y", f"w[{i}]", value=1.0) for i in range(298)]
    rows += [derivative("y", f"w[{i}]", value=None, connected=False, reason=unread) for i in (298, 299)]
    lines = lines_of(gradients(*rows))
    assert lines[0] == "2 of 300 gradients are not connected"
    assert [line.split()[0] for line in lines[2:5]] == ["∂y/∂w[298]", "∂y/∂w[299]", "∂y/∂w[0]"]
    assert lines[2].split("  ")[-1].strip() == "y does not read it"
    assert "… 280 more" in lines
    assert lines_of(gradients(*rows[-12:]))[1].startswith("∂y/∂w[288]")  # all are shown, in their order


def test_of_many_derivatives_zeros_are_no_verdict():
    lines = lines_of(gradients(*[derivative("y", f"w[{i}]", value=float(i)) for i in range(300)]))
    assert lines[1].split() == ["∂y/∂w[0]", "0"]


def test_devices_that_were_set_up():
    report = machine(gpu(0, PolicyKind.GROWTH), gpu(1, PolicyKind.HIDDEN))
    assert lines_of(report) == [
        "GPU 0 memory as needed, GPU 1 hidden · done",
        "device                         memory     policy",
        "GPU:0   NVIDIA H200 (9.0)              as needed",
        "GPU 1   NVIDIA H200 (9.0)                 hidden",
        "CPU:0   AMD EPYC, 16 cores  128.0 GiB",
        "TensorFlow 2.21.0 · CUDA 12.5.1 · cuDNN 9 · TensorFlow has not started yet",
    ]


def test_memory_in_use():
    gibi = 2**30
    used = gpu(
        0, PolicyKind.LIMIT, 4 * gibi, memory_total=8 * gibi, memory_used=2 * gibi, memory_peak=3 * gibi
    )
    report = machine(used, started=True, outcome=SetupOutcome.ASKED)
    assert lines_of(report) == [
        "device                           used here         of         policy",
        "GPU:0   NVIDIA H200 (9.0)   ━━╸    2.0 GiB    8.0 GiB  at most 4 GiB",
        "    peak 3.0 GiB",
        "CPU:0   AMD EPYC, 16 cores                  128.0 GiB",
        "TensorFlow 2.21.0 · CUDA 12.5.1 · cuDNN 9 · TensorFlow has started",
    ]


def test_devices_of_which_nothing_more_is_known_have_no_column_for_it():
    table = describe(machine(outcome=SetupOutcome.ASKED)).first(Table)
    assert table is not None
    assert [column.heading for column in table.columns] == ["device", "", "memory"]


def test_no_gpu():
    report = machine(
        outcome=SetupOutcome.NO_GPU, why_no_gpu="this TensorFlow is built without CUDA", cuda=None, cudnn=None
    )
    assert lines_of(report) == [
        "No GPU: TensorFlow continues on the CPU · this TensorFlow is built without CUDA",
        "device                         memory",
        "CPU:0   AMD EPYC, 16 cores  128.0 GiB",
        "TensorFlow 2.21.0 · TensorFlow has not started yet",
    ]


def test_what_nvml_tells_stands_below_its_row():
    gibi = 2**30
    here = Holder(77, 44 * gibi, "ipykernel_launcher", "a.ipynb", here=True)
    there = Holder(4121, 7 * gibi, "ipykernel_launcher", "train-big.ipynb")
    first = gpu(
        0,
        PolicyKind.GROWTH,
        memory_total=140 * gibi,
        memory_used=43 * gibi,
        memory_peak=50 * gibi,
        memory_all=51 * gibi,
        load=0.87,
        temperature=54,
        card=3,
        holders=(here, there, Holder(9), Holder(8), Holder(7)),
    )
    unseen = Device("CARD", 1, (), "NVIDIA T4", None, 16 * gibi, None, None, Policy(PolicyKind.UNSEEN), False)
    assert lines_of(machine(first, unseen, started=True, driver="580.159")) == [
        "GPU 0 memory as needed · done",
        "device                            used here    by all         of     policy",
        "GPU:0   NVIDIA H200 (9.0)   ━━━╌   43.0 GiB  51.0 GiB  140.0 GiB  as needed",
        "    peak 50.0 GiB · card 3 of nvidia-smi · load 87 % · 54 °C ·",
        "      44.0 GiB by this kernel (process 77) ·",
        "      7.0 GiB by the notebook train-big.ipynb (process 4121) ·",
        "      held by process 9 · 2 more processes",
        "card 1  NVIDIA T4                                       16.0 GiB   not seen",
        "CPU:0   AMD EPYC, 16 cores                             128.0 GiB",
        "TensorFlow 2.21.0 · CUDA 12.5.1 · cuDNN 9 · driver 580.159 ·",
        "  TensorFlow has started",
    ]


def test_what_is_set_beside_the_devices():
    more = {"settings": ("precision mixed_bfloat16", "seed 3"), "outcome": SetupOutcome.NO_GPU}
    report = machine(why_no_gpu="no driver", **more)
    assert lines_of(report)[0] == (
        "No GPU: TensorFlow continues on the CPU · no driver · precision mixed_bfloat16 ·"
    )
    asked = machine(gpu(0, PolicyKind.DEFAULT), outcome=SetupOutcome.ASKED, settings=("placement logged",))
    assert "Set beside the devices: placement logged." in lines_of(asked)


def test_asked_without_a_gpu():
    report = machine(outcome=SetupOutcome.ASKED, why_no_gpu="no NVIDIA driver: libcuda.so.1 was not found")
    said = "No GPU (no NVIDIA driver: libcuda.so.1 was not found); %tfgpu --doctor looks closer."
    assert said in " ".join(line.strip() for line in lines_of(report))
    assert describe(report).first(Verdict) is None


LONG = [
    gradients(
        derivative("a_loss_with_a_very_long_name", "a_variable_with_a_longer_one", value=np.arange(500.0)),
        derivative(
            "a_loss_with_a_very_long_name",
            "b",
            value=None,
            connected=False,
            reason=LONG_CUT,
        ),
        derivative("a_loss_with_a_very_long_name", "c", value=np.full((2, 3), -0.123456)),
    ),
    gradients(derivative("loss", "block/" * 12 + "kernel", value=np.arange(500.0), of_model=True)),
    gradients(derivative("y", "z", value=np.full(6, 0.123456 + 1e-9j), dtype="complex128")),
    minimum([3.0, 2.0, 1.0], {"w" * 90: change(0.0, 1.0)}, loss_name="l" * 70, optimizer="SGD(" + "x" * 90),
    machine(gpu(0, PolicyKind.LIMIT, 2**31, 2**31, product="P" * 70), notes=("a note " * 30,)),
    *hostile_reports("宽" * 60),
    *(report for name in HOSTILE for report in hostile_reports(name)),
]


@pytest.mark.parametrize("columns", [NARROWEST, 60, WIDTH, WIDEST])
@pytest.mark.parametrize("report", LONG)
def test_no_line_is_wider_than_a_terminal(report, columns):
    assert max(map(width, to_text(describe(report), columns).splitlines())) <= columns


def test_a_narrow_terminal_leaves_out_what_tells_least_and_cuts_no_number():
    path = "residual_block_0/kernel"
    report = minimum([3.0, 2.0], {path: change(np.full((4, 4), 0.123456), np.full((4, 4), 2.3))})
    assert to_text(describe(report), 80).splitlines()[-2].split() == ["variable", "start", "end", "gradient"]
    head, row = to_text(describe(report), NARROWEST).splitlines()[-2:]
    assert head.split() == ["variable", "end", "gradient"]
    assert row.split() == ["residual_…k_0/kernel", "norm", "9.2", "0"]


@pytest.mark.parametrize(("said", "columns"), [(20, 40), (60, 60), (97, 97), (300, 120)])
def test_a_report_follows_the_terminal(said, columns, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(said))
    report = LONG[0]
    assert str(report) == to_text(describe(report), columns)
    assert set(report._repr_mimebundle_()) == {"text/plain"}
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert str(report) == to_text(describe(report), WIDTH)
    bundle = report._repr_mimebundle_()
    assert bundle == {"text/plain": str(report), "text/html": report._repr_html_()}
    assert set(report._repr_mimebundle_(include={"text/html"})) == {"text/html"}
    assert set(report._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_moves_the_cursor_or_turns_the_text(name):
    for report in hostile_reports(name):
        text = to_text(describe(report))
        assert not set(text) & set("\x07\x1b\r\u202e\u2066\u2069")


def test_a_long_name_keeps_its_beginning_and_its_end():
    lines = lines_of(LONG[0])
    assert lines[1].startswith("∂a_loss_wit")
    assert "longer_one  " in lines[1]


def test_blocks():
    assert blocks([0, 1, 2]) == "▁▅█"
    assert blocks([5, 5]) == "▁▁"
    assert blocks([-1.7e308, 1.7e308]) == "▁█"


@pytest.mark.parametrize("between", ["\n", "\r\n", "\t", "\v", "\f", "\u2028", "\u2029"])
def test_text_of_the_users_is_cleaned_into_one_line(between: str) -> None:
    """Browsers break lines at the separators of Unicode, too."""
    assert clean(f"a{between}b").split() == ["a", "b"]
    assert len(clean(f"a{between}b\x1c\x85\u202ec").splitlines()) == 1
