"""The lines that the fuzzing begins with, and the words that it puts into them."""

from __future__ import annotations

from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.line.tfgpu import TFGPU

LINES: dict[Magic, tuple[str, ...]] = {
    GRAD: (
        "",
        "dy/dx, d2y/dx2",
        "d2y/dx da",
        "d2y/dxda",
        "∂²y/∂x∂a, ∇loss",
        "d3y/dx2 da loss",
        "loss --wrt a, p['w'] layer.kernel --zero -q",
        "y --order 2 --wrt x -o r",
        "y --jvp x=v*2 a=[1, 2]",
        "y --hvp 'x=f(1, 2)'",
        "dy/dx --def f",
        "y --hessian --check --inspect",
        "d2out['a'].b/dp[0]dp[-1]",
        "d loss / d w, ∂² y / ∂ x ∂ a, ∇ z",
        "d^2 y / d x^2 d d / d a",
        "d/dx y, d2 / d x2 (loss)",
        "y --vjp y=v z=[1, 2] --wrt x",
        "dloss/dw --for 'xb, (yb, zb) in (x, y)' --batch 1_0 --strategy mirrored",
        "loss --for 'b in f(2)' --strategy tf.distribute.MirroredStrategy(['CPU:0'])",
    ),
    MINIMIZE: (
        "",
        "y --over x --optimizer sgd --lr 0.01 --steps 1_000",
        'loss --optimizer "SGD(0.1, momentum=0.9)" --tol 1e-6 --gtol 0 --target -1 --patience 3',
        "--over a b --bounds 'x=0:1, w[0]=-1:, z=:f(2)' --keep best --resume",
        "loss --for 'xb, yb in train' --batch 32 --epochs 2 --time 1.5h --track a,b",
        "--checkpoint DIR --seed 3 --engine xla -o m -q",
        "loss --optimizer l-bfgs-b --time 300ms",
        "loss --for 'xb, yb in (x, y)' --batch 256 --epochs 3 --strategy mirrored",
        "--for 'b in d' --strategy workers --checkpoint DIR --resume --val 'b in e'",
        "loss --strategy 'f(1, 2)'",
    ),
    TFGPU: (
        "",
        "0 --growth",
        "1,0 --limit 4GiB --split 2",
        "freest --limit 50%",
        "--cpu --split 4 --deterministic",
        "--allocator cuda_malloc --precision mixed_bfloat16 --seed 1 --placement",
        "--doctor --json",
        "--watch",
        "0 --reset-peak --require -o d -q",
        "--limit 0.5",
        "--workers 'node1:5000, node2:5000' --worker 1 --wait 2m",
        '--workers "[::1]:5000,[fe80::1%eth0]:5001" --worker 0 --wait 1.5 --cpu --split 2',
        "--workers TF_CONFIG --wait 300ms",
    ),
}

SEEDS = [
    bytes([MAGICS.index(magic) + len(MAGICS) * names]) + line.encode()
    for magic, lines in LINES.items()
    for number, line in enumerate(lines)
    for names in {number % 5, 4}
]

_VALUES = (
    "in",
    "=",
    ":",
    ",",
    "'",
    '"',
    "--",
    "-1",
    "1e400",
    "nan",
    "inf",
    "0x1",
    "1_0",
    "٣",
    "²",
    "\0",
    "\u2028",
)
WORDS = sorted(
    {flag for magic in MAGICS for option in magic.options for flag in option.flags}
    | {choice for magic in MAGICS for option in magic.options for choice in option.choices}
    | {word for lines in LINES.values() for line in lines for word in line.split()}
    | set(_VALUES)
)
