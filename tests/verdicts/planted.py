"""Planted faults of each kind, with a truth that mathematics gives in advance; see ``cases.py``."""

from __future__ import annotations

from tape_magic.results.findings import FindingKind

PLANTED = {
    # Least squares of noise, by gradient descent whose path is known; labels that others do not share.
    FindingKind.OVERFITS: """
A, b, V, u = sets(30, 40, 200, 1.0); w = var(np.zeros(30)) |
    sgd 0.05 --for "xb, tb in (A, b)" --batch 40 --epochs 150 --val "xb, tb in (V, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2) | epoch=turn(A, b, V, u, 0.05, 150)
A, b, V, u = sets(30, 40, 200, 1.0, 1); w = var(np.zeros(30)) | " | " | epoch=turn(A, b, V, u, 0.05, 150)
A, b, V, u = sets(18, 24, 100, 2.0, 2); w = var(np.zeros(18)) |
    sgd 0.02 --for "xb, tb in (A, b)" --batch 24 --epochs 120 --val "xb, tb in (V, u)" | " |
    epoch=turn(A, b, V, u, 0.02, 120)
" | " --patience 60 | " | epoch=turn(A, b, V, u, 0.02, 60), says="--keep best"
" | sgd 0.02 --for "xb, tb in [(A, b)]" --epochs 120
    --val "xb, tb in [(V[:50], u[:50]), (V[50:], u[50:])]" | " | epoch=turn(A, b, V, u, 0.02, 120)
A, b, V, u = sets(18, 24, 100, 2.0, 3); w = var(np.zeros(18)) |
    sgd 0.01 --for "xb, tb in (A, b)" --batch 24 --epochs 200 --val "xb, tb in (V, u)" | " |
    epoch=turn(A, b, V, u, 0.01, 200)
" | sgd 0.02 --for "xb, tb in (A, b)" --batch 24 --epochs 150 --val "xb, tb in (V, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2) + 0.001*tf.reduce_sum(w**2) |
    epoch=turn(A, b, V, u, 0.02, 150, 0.001)
A, b, V, u = sets(40, 50, 300, 1.0, 4); w = var(np.zeros(40)) |
    sgd 0.01 --for "xb, tb in (A, b)" --batch 10 --epochs 60 --val "xb, tb in (V, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2) | says="overfits since epoch"
m = net(Dense(64, "relu"), rows=(30,)); A, b, V, u = sets(30, 40, 200, 3.0, 5) |
    adam 0.003 --for "xb, tb in (A, b[:, None])" --batch 10 --epochs 60 --val "xb, tb in (V, u[:, None])" |
    y = tf.reduce_mean((m(xb) - tb)**2) | says="overfits since epoch"
m = net(Dense(64, "relu"), out=2, rows=(30,)); A, _, V, _ = sets(30, 60, 200, 0.1, 6);
    b, u = (rng.integers(0, 2, n) for n in (60, 200)) |
    adam 0.003 --for "xb, tb in (A, b)" --batch 20 --epochs 60 --val "xb, tb in (V, u)" |
    y = ce(tb, m(xb)) | says="the validation rose"
m = net(Dense(64, "relu"), L.Dropout(0.1), out=2, rows=(30,)); A, _, V, _ = sets(30, 60, 200, 0.1, 6);
    b, u = (rng.integers(0, 2, n) for n in (60, 200)) | " |
    p = m(xb, training=TRAINING) ⏎ y = ce(tb, p) | says="--keep best --patience"
m = net(Dense(64, "tanh"), rows=(30,)); A, b, V, u = sets(30, 40, 200, 3.0, 7) |
    AdamW(0.01, weight_decay=1e-4) - --for "xb, tb in (A, b[:, None])" --batch 10 --epochs 50
    --val "xb, tb in (V, u[:, None])" | y = tf.reduce_mean((m(xb) - tb)**2) |
    says="while the training loss fell"
""",
    # The first operation that is not finite, the step at which it is asked, and the line.
    FindingKind.NOT_FINITE: """
x = var(1.0) | sgd 2 20 | z = 2 * x ⏎ y = tf.math.log(z) | line=3, step=1, operation="Log"
" | " | y = tf.math.log1p(x - 1) | line=2, step=1, operation="Log1p"
" | sgd 1 20 | h = x**1.5 ⏎ y = h + 1 | line=2, step=1, operation="Pow"
x = var(0.5) | " | y = tf.sqrt(x) | line=2, step=1, operation="Sqrt"
x = var(0.0) | sgd 0.3 20 | a = 2 * x ⏎ y = tf.acos(x) + 0 * a | line=3, step=4, operation="Acos"
" | " | y = 3 * tf.sqrt(x) | line=2, step=0, operation="Sqrt"
" | " | s = tf.sin(x) ⏎ y = s / x | line=3, step=0, operation="RealDiv"
" | " | y = tf.where(x > 0, tf.math.log(x), (x - 1)**2) | line=2, step=0, operation="Log"
x = var(100.0) | " | z = x - 1 ⏎ y = tf.exp(z) * 1e-30 | line=3, step=0, operation="Exp"
x = var([0.5, 0.0]) | " | a = 1.0 / x ⏎ y = tf.reduce_sum(a**2) | line=2, step=0, operation="RealDiv"
x = var([0.0, 200.0]) | " | p = tf.nn.softmax(x) ⏎ y = -tf.math.log(p[0]) | line=3, step=0, operation="Log"
m = net() | " | p = m(X) ⏎ y = -tf.reduce_mean(tf.math.log(p)) | line=3, step=0, operation="Log"
A = np.array([[1.0], [2.0], [-3.0]], "float32"); w = var([[1.0]]) |
    sgd 0.001 --for "xb in A" --batch 1 | h = xb @ w ⏎ y = tf.reduce_mean(tf.math.log(h)) |
    line=3, operation="Log"
""",
    # The rate is above c/λ, λ the largest curvature: c is 2, 2(1 + β) with momentum, and Nesterov's.
    FindingKind.RUNAWAY: """
x = var(5.0) | sgd 0.2 300 | y = 6.2 * x**2 | bound=2/12.4
" | sgd 1.02 40 | y = x**2 | bound=1.0
" | sgd 1e10 100 | " | bound=1.0
x = var(10.0) | sgd 0.01 100 | y = x**4 | bound=2/1200
x, H = bowl(1, 10, 100) | sgd 0.021 500 | y = q(x, H) | bound=0.02
x, H = bowl(*np.geomspace(1, 50, 100)) | sgd 0.05 2000 | " | bound=0.04
x, H = bowl(1, 10) | SGD(0.5, momentum=0.9) - 500 | " | bound=0.38
" | SGD(0.2, momentum=0.9, nesterov=True) - 500 | " | bound=3.8/28
x = var([-1.2, 1.0]) | sgd 0.01 300 | y = (1 - x[0])**2 + 100*(x[1] - x[0]**2)**2 |
    bound=2/np.linalg.eigvalsh([[1330, 480], [480, 200]])[-1]
w = var(np.zeros((8, 1))) | sgd 0.1 300 | y = tf.reduce_mean((4*X @ w - t)**2) |
    bound=1/np.linalg.eigvalsh(X.T @ X / 4)[-1]
m = Dense(1, use_bias=False) | " | y = tf.reduce_mean((m(4*X) - t)**2) |
    bound=1/np.linalg.eigvalsh(X.T @ X / 4)[-1]
w = var(np.zeros((8, 1))) | sgd 0.2 --for "xb, tb in (X, t)" --batch 16 --epochs 40 |
    y = tf.reduce_mean((4*xb @ w - tb)**2) | says="the steps grow"
""",
    # Predictions (n, 1) meet targets (n,).
    FindingKind.BROADCAST: """
w = var(np.zeros((8, 1))) | sgd 0.01 20 | p = X @ w ⏎ y = tf.reduce_mean((p - t1)**2) |
    line=3, shapes=((64, 1), (64,))
" | " --engine eager | " | line=3, shapes=((64, 1), (64,))
" | " | p = (X @ w)[:, 0] ⏎ y = tf.reduce_mean(tf.abs(t - p)) | line=3, shapes=((64, 1), (64,))
" | " | p = tf.squeeze(X @ w) ⏎ e = t - p ⏎ y = tf.sqrt(tf.reduce_mean(e**2)) | line=3, rows=64
" | " | p = X @ w ⏎ d = tf.abs(p - t1) ⏎ y = tf.reduce_mean(tf.where(d < 1, d**2/2, d - 0.5)) |
    line=3, rows=64
" | " | p = X @ w ⏎ y = tf.reduce_mean(tf.maximum(0.0, 1 - (2*c - 1)*p)) | line=3, rows=64
" | " | p = X @ w ⏎ e = t1 - p ⏎ y = tf.reduce_mean(tf.maximum(0.3*e, -0.7*e)) | line=3, rows=64
" | " | p = tf.math.log_sigmoid(X @ w) ⏎ y = -tf.reduce_mean(p * t1) | line=3, rows=64
" | " | p = tf.sigmoid(X @ w) ⏎ y = -tf.reduce_mean(c*tf.math.log(p) + (1-c)*tf.math.log(1-p)) |
    line=3, rows=64
" | sgd 0.01 --for "xb, tb in (X, t1)" --batch 16 --epochs 3 | p = xb @ w ⏎ y = tf.reduce_mean((p - tb)**2) |
    line=3, rows=16
m = net(Dense(8, "relu")) | adam 0.01 20 | y = tf.reduce_mean((m(X) - t1)**2) | line=2, rows=64
m = net(Dense(8, "relu"), L.Dropout(0.5)) | adam 0.01 --for "xb, tb in (X, t1)" --batch 16 --epochs 3 |
    p = m(xb, training=True) ⏎ y = tf.reduce_mean((p - tb)**2) | line=3, rows=16
""",
    # Biases that no row reaches, and data that are far too large.
    FindingKind.DEAD_UNITS: """
w = var(normal(8, 16)); b = var([-40.0] * 16); v = var(normal(16, 1)) | sgd 0.05 60 |
    h = tf.nn.relu(X @ w + b) ⏎ y = tf.reduce_mean((h @ v - t)**2) | line=2, units=16, rows=64
" | adam 0.01 30 --engine eager | " | line=2, units=16, rows=64
" | - | " | line=2, units=16, rows=64
" | sgd 0.05 60 | z = X @ w + b ⏎ h = tf.maximum(0.0, z) ⏎ y = tf.reduce_mean((h @ v - t)**2) |
    line=3, units=16
" | " | h = tf.tanh(X @ w + b) ⏎ y = tf.reduce_mean((h @ v - t)**2) | line=2, units=16, operation="Tanh"
" | " | h = tf.sigmoid(X @ w + b) ⏎ y = tf.reduce_mean((h @ v - t)**2) | line=2, units=16, operation="Sigmoid"
w = var(normal(8, 16)); v = var(0.3*normal(16, 1)); A = 1000*abs(X) | " |
    h = tf.tanh(A @ w) ⏎ y = tf.reduce_mean((h @ v - t)**2) | line=2, units=16, says="scale the input"
w = var(normal(16, 8)); b = var(-40*np.ones((16, 1))); v = var(normal(1, 16)) | sgd 0.01 60 |
    h = tf.nn.relu(w @ X.T + b) ⏎ y = tf.reduce_mean((v @ h - t1)**2) | line=2, units=16, rows=64
m = net(Dense(8, "relu", bias_initializer=Constant(-20)), Dense(8, "relu")) | adam 0.01 40 |
    p = m(X) ⏎ y = tf.reduce_mean((p - t)**2) | line=2, units=8, rows=64
m = net(Dense(8, "relu"), Dense(6, "relu", bias_initializer=Constant(-20))) | " | " | line=2, units=6, rows=64
m = net(Dense(8, "relu", kernel_regularizer="l2", bias_initializer=Constant(-20)), out=4) | " |
    p = m(X) ⏎ y = ce(k, p) + sum(m.losses) | line=2, units=8, rows=64
m = net(Dense(8, "relu", bias_initializer=Constant(-20)), L.Dropout(0.3)) |
    adam 0.01 --for "xb, tb in (X, t)" --batch 16 --epochs 5 |
    p = m(xb, training=True) ⏎ y = tf.reduce_mean((p - tb)**2) | line=2, units=8, rows=16
m = net(L.Conv2D(4, 3, activation="relu", bias_initializer=Constant(-9)), L.Flatten(), out=2, rows=(12, 12,
    1)) |
    adam 0.01 --for "xb, tb in (im, il)" --batch 8 --epochs 6 | p = m(xb) ⏎ y = ce(tb, p) | line=2, rows=8
""",
    # Sigmoids multiply by at most ¼; chains of matrices by a known factor from layer to layer.
    FindingKind.VANISHING: """
ws = [var(0.1*np.eye(8)) for _ in range(7)] | sgd 0.001 20 --over ws |
    h = X ⏎ for w in ws: ⏎     h = h @ w ⏎ y = tf.reduce_mean((tf.reduce_sum(h, 1, True) - t)**2) |
    line=4, ratio=1e-6
" | " --engine eager | " | line=4, ratio=1e-6
ws = [var(0.2*np.eye(8)) for _ in range(9)] | " | " | line=4, ratio=0.2**8
ws = [var(0.05*np.eye(8)) for _ in range(5)] | " | " | line=4, ratio=0.05**4
m = net(*[Dense(16, "sigmoid", name=f"s{n}") for n in range(10)]) | sgd 0.1 60 |
    p = m(X) ⏎ y = tf.reduce_mean((p - t)**2) | line=2, layers=11, says=" to s0"
" | sgd 0.1 30 --engine eager | " | line=2, layers=11
" | sgd 0.1 --for "xb, tb in (X, t)" --batch 16 --epochs 6 | p = m(xb) ⏎ y = tf.reduce_mean((p - tb)**2) |
    line=2, layers=11
m = net(*[Dense(16, "sigmoid") for _ in range(10)], out=4) | sgd 0.1 60 | p = m(X) ⏎ y = ce(k, p) |
    line=2, layers=11
m = net(*[Dense(16, "relu", kernel_initializer=RandomNormal(stddev=0.03)) for _ in range(8)]) | " |
    p = m(X) ⏎ y = tf.reduce_mean((p - t)**2) | line=2, layers=9
ws = [var(0.03*normal(n, 16)) for n in [8] + 9*[16]] + [var(normal(16, 1))] | sgd 0.1 60 --over ws |
    h = X ⏎ for w in ws[:-1]: ⏎     h = tf.tanh(h @ w) ⏎ y = tf.reduce_mean((h @ ws[-1] - t)**2) |
    line=4, layers=11
""",
    FindingKind.EXPLODING: """
ws = [var(10*np.eye(8)) for _ in range(7)] | sgd 0.001 20 --over ws |
    h = X ⏎ for w in ws: ⏎     h = h @ w ⏎ y = tf.reduce_mean((tf.reduce_sum(h, 1, True) - t)**2) |
    line=4, ratio=1e6
" | " --engine eager | " | line=4, ratio=1e6
ws = [var(5*np.eye(8)) for _ in range(8)] | " | " | line=4, ratio=5.0**7
ws = [var(20*np.eye(8)) for _ in range(6)] | " | " | line=4, ratio=20.0**5
ws = [var(100*np.eye(8)) for _ in range(4)] | " | " | line=4, ratio=1e6
ws = [var(10*np.eye(8)) for _ in range(7)] |
    sgd 0.001 --over ws --for "xb, tb in (X, t)" --batch 16 --epochs 2 |
    h = xb ⏎ for w in ws: ⏎     h = h @ w ⏎ y = tf.reduce_mean((tf.reduce_sum(h, 1, True) - tb)**2) |
    line=4, ratio=1e6
ws = [var(normal(n, 16)) for n in [8] + 9*[16]] + [var(normal(16, 1))] | sgd 0.001 40 --over ws |
    h = X ⏎ for w in ws[:-1]: ⏎     h = h @ w ⏎ y = tf.reduce_mean((h @ ws[-1] - t)**2) | line=4, layers=11
" | " | h = X ⏎ for w in ws[:-1]: ⏎     h = tf.nn.relu(2 * h @ w) ⏎ y = tf.reduce_mean((h @ ws[-1] - t)**2) |
    line=4, layers=11
m = net(*[Dense(16, "relu", kernel_initializer=RandomNormal(stddev=1.5)) for _ in range(10)]) | sgd 0.01 40 |
    p = m(X) ⏎ y = tf.reduce_mean((p - t)**2) | line=2, layers=11
m = net(*[Dense(16, kernel_initializer=RandomNormal(stddev=1.5)) for _ in range(6)]) | " | " |
    line=2, layers=7
""",
    # A step is the rate times the gradient, below half of ε times the value.
    FindingKind.UNMOVED: """
w = var(1.0) | sgd 1e-9 50 | y = (w - 3)**2 | step=4e-9, value=1.0
" | adam 1e-9 50 | " | step=1e-9, value=1.0
w = var(1e8) | sgd 1e-3 50 | y = (w - 3e8)**2 / 1e8 | step=4e-3, value=1e8
" | adam 1e-3 50 --engine eager | " | step=1e-3, value=1e8
w = double(1.0) | sgd 1e-18 50 | y = (w - 3)**2 | step=4e-18, value=1.0
w = var(1.0, "float16") | sgd 1e-5 50 | " | says="(4·10⁻⁵) are below float16's rounding of 1"
" | adam 1e-4 50 | " | step=1e-4, says="float16's rounding of 1"
w = var(1.0, "bfloat16") | sgd 1e-4 50 | " | step=4e-4, says="bfloat16's rounding of 1"
w = var([1.0, 2.0, 3.0], "bfloat16") | sgd 1e-5 50 --engine eager | y = tf.reduce_sum((w - 7)**2) |
    step=1.2e-4
w = var(1.0, "float16"); v = var(1.0) | sgd 1e-4 100 | y = tf.cast(w - 3, tf.float32)**2 + (v - 2)**2 |
    step=4e-4, says="w does not move"
m = Dense(1, dtype="bfloat16", kernel_initializer="ones") |
    sgd 1e-4 --for "xb, tb in (X, t)" --batch 64 --epochs 20 |
    y = tf.reduce_mean((tf.cast(m(xb), tf.float32) - tb)**2) | says="bfloat16's rounding of 1"
""",
    FindingKind.SOFTMAX_TWICE: """
w = var(np.zeros((8, 1))) | sgd 0.1 20 |
    p = tf.sigmoid(X @ w) ⏎ y = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(cc, p)) |
    line=3, activation="Sigmoid"
" | " --engine eager | " | line=3, activation="Sigmoid"
" | " | p = tf.sigmoid(X @ w) ⏎ y = tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(cc, p, 2.0)) |
    line=3
" | " --engine eager | p = tf.sigmoid(X @ w) ⏎ y = keras.losses.BinaryCrossentropy(from_logits=True)(cc, p) |
    line=3
w = var(np.zeros((8, 4))) | sgd 0.1 20 |
    p = tf.nn.softmax(X @ w) ⏎ y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(hot, p)) | line=3
" | " | p = tf.nn.softmax(X @ w) ⏎ e = tf.nn.sparse_softmax_cross_entropy_with_logits(k, p) ⏎
    y = tf.reduce_mean(e) |
    line=3, activation="Softmax"
" | " --engine eager | " | line=3, activation="Softmax"
" | " --for "xb, kb in (X, k)" --batch 16 --epochs 3 |
    p = tf.nn.softmax(xb @ w) ⏎ e = tf.nn.sparse_softmax_cross_entropy_with_logits(kb, p) ⏎
    y = tf.reduce_mean(e) | line=3
m = net(Dense(8, "relu"), L.Dense(4, "softmax"), L.Identity(), out=4); n = keras.Sequential(m.layers[:-1]) |
    adam 0.01 20 |
    p = n(X) ⏎ y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(hot, p)) |
    line=3, activation="Softmax"
m = keras.Sequential([Input((8,)), Dense(8, "relu"), Dense(1, "sigmoid")]) | " --engine xla |
    p = m(X) ⏎ y = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(cc, p)) |
    line=3, activation="Sigmoid"
""",
    # At the bound 2/λ, and 2(1 + β)/λ: steps go back and forth along the curvature λ; kinks have no bound.
    FindingKind.TOO_FAST: """
x = var(5.0) | sgd 1 60 | y = (x - 1)**2 + 1 | curvature=2.0
" | sgd 0.9975 60 | " | curvature=2.0
" | sgd 0.995 60 --engine eager | " | curvature=2.0
" | SGD(1.9, momentum=0.9) - 60 | y = x**2 | curvature=2.0
" | SGD(1.9/2.8, momentum=0.9, nesterov=True) - 60 | " | curvature=2.0
x, H = bowl(*np.geomspace(1, 50, 20)) | sgd 0.03996 200 | y = q(x, H) | curvature=50.0
x, H = bowl(1, 10) | sgd 0.1999 100 | " | curvature=10.0
w = var(np.zeros((8, 1))); λ = 2*np.linalg.eigvalsh(X.T @ X / 64)[-1] | sgd 1.999/λ 200 |
    y = tf.reduce_mean((X @ w - t)**2) | curvature=λ
m = Dense(1, use_bias=False); λ = 2*np.linalg.eigvalsh(X.T @ X / 64)[-1] | " |
    y = tf.reduce_mean((m(X) - t)**2) |
    curvature=λ
w = var(np.zeros((8, 1))); λ = 2*np.linalg.eigvalsh(X.T @ X / 64)[-1] |
    sgd 1.999/λ --for "xb, tb in (X, t)" --batch 64 --epochs 200 | y = tf.reduce_mean((xb @ w - tb)**2) |
    curvature=λ
x = var(5.03) | sgd 0.1 100 | y = tf.abs(x) | says="turn back"
x = var([5.03, 2.0]) | sgd 0.3 100 | y = tf.reduce_sum(tf.abs(x)) | says="turn back"
x = var(3.0) | sgd 4 200 | y = tf.math.log(tf.cosh(x)) | curvature=2/4
""",
    # The rate of 1/λ, rounded down, by the rate that was taken; Adam's steps may go as far as the minimum.
    FindingKind.TOO_SLOW: """
x = var(5.0) | sgd 1e-5 1000 | y = (x - 3)**2 | times=0.5/1e-5
" | adam 1e-6 1000 | " | times=1e4
x = double(5.0) | sgd 1e-10 | " | times=0.5/1e-10
x, H = bowl(1, 2, 5) | sgd 1e-6 500 | y = q(x, H) | times=0.2/1e-6
x, H = bowl(*np.linspace(1, 20, 100)) | sgd 2e-6 500 | " | times=0.05/2e-6
x, H = bowl(1, 2) | SGD(1e-6, momentum=0.9) - 400 | " | times=0.5/1e-6
w = var(np.zeros((8, 1))); λ = 2*np.linalg.eigvalsh(X.T @ X / 64)[-1] | sgd 1e-6 500 |
    y = tf.reduce_mean((X @ w - t)**2) | times=down(1/λ)/1e-6
m = Dense(1, use_bias=False); λ = 2*np.linalg.eigvalsh(X.T @ X / 64)[-1] | " |
    y = tf.reduce_mean((m(X) - 3*t)**2) | times=down(1/λ)/1e-6
m = net(Dense(16, "relu")) | sgd 1e-6 300 | y = tf.reduce_mean((m(X) - 4*t)**2) | says="times as long"
m = net(Dense(16, "tanh")) | adam 1e-6 300 | " | says="times as long"
x = var([-1.2, 1.0]) | sgd 1e-7 1000 | y = (x[0]**2 + x[1] - 11)**2 + (x[0] + x[1]**2 - 7)**2 |
    says="times as long"
m = net() | sgd 1e-6 --for "xb, tb in (X, t)" --batch 16 --epochs 40 | y = tf.reduce_mean((m(xb) - 4*tb)**2) |
    says="times as long"
""",
    # Slopes at the start, where it stays: 2s(1−s)² for a sigmoid s, and so on.
    FindingKind.FLAT_POINT: """
x = double(-25.0) | sgd 1 | y = 1 + (1 - tf.sigmoid(x))**2 | gradient=2*math.exp(-25)
x = var(-14.0) | sgd 0.1 | y = (1 - tf.sigmoid(x))**2 | gradient=2*math.exp(-14)
" | sgd 0.1 --engine eager | " | gradient=2*math.exp(-14)
x = var(-6.0) | sgd 0.01 1000 --tol 1e-3 | " | gradient=2*math.exp(-6)
" | adam 1e-5 1000 --gtol 1e-2 | " | gradient=2*math.exp(-6)
x = var(12.0) | sgd - | y = -tf.exp(-x**2/4) | gradient=6*math.exp(-36)
x = double([9.0, 9.0]) | - | y = 1 - tf.exp(-tf.reduce_sum(x**2)/4) | says="flat point"
x = double(9.0) | sgd 0.1 | y = tf.tanh(x)**2 | gradient=8*math.exp(-18)
x = double(0.0) | - | y = x**3 + 0.1*x**4 | gradient=0
w = var(np.zeros((8, 1))); b = var(-12.0) | sgd 0.1 | y = tf.reduce_mean((tf.sigmoid(X @ w + b) - cc)**2) |
    says="flat point"
m = Dense(1, "sigmoid", bias_initializer=Constant(-12)) | " | y = tf.reduce_mean((m(X) - cc)**2) |
    says="flat point"
""",
    # The least eigenvalue of the Hessian where it settles.
    FindingKind.SADDLE: """
x = var(3.0); z = var(0.0) | sgd 0.1 | y = x**2 - z**2 | curvature=-2.0
" | - | y = x**2 - z**2 + z**4/4 | curvature=-2.0
" | adam 0.1 | " | curvature=-2.0
a = var(0.0); b = var(0.0) | - | y = (a*b - 1)**2 | curvature=-2.0
x = var([0.0, 1.0, 1.0, 1.0]) | sgd 0.1 1000 --tol 1e-6 |
    y = tf.reduce_sum(x**2 * [-0.5, 0.5, 1.0, 1.5]) | curvature=-1.0
x = var([0.0] + 99*[1.0]) | sgd 0.1 | y = tf.reduce_sum(x**2)/2 - 0.75*x[0]**2 | curvature=-0.5
x = double([0.0, 2.0]) | adam 0.05 | y = (x[0]**2 - 1)**2 + x[1]**2 | curvature=-4.0
x = var([0.0, 0.0]) | - | y = tf.cos(x[0]) + x[1]**2 | curvature=-1.0
w = var(np.zeros((8, 1))); v = var(0.0) | sgd 0.1 | y = tf.reduce_mean((v*tf.tanh(X @ w) - t)**2) |
    curvature=-2*np.linalg.norm((X*t).mean(0))
m = net(Dense(8, "tanh", kernel_initializer="zeros")); m.layers[-1].kernel.assign(np.zeros((8, 1))) | " |
    y = tf.reduce_mean((m(X) - t)**2) | curvature=-2*np.linalg.norm((X*(t - t.mean())).mean(0))
""",
    # Eigenvalues, and what of the loss is left along the small ones.
    FindingKind.ILL_CONDITIONED: """
u = var(1.0); v = var(1.0) | sgd 3e-5 2000 | y = (4e4*u**2 + v**2) / 2 | across=4e4, along=1.0
u = double(1.0); v = double(1.0) | sgd 1e-8 | y = (1e8*u**2 + v**2) / 2 | across=1e8, along=1.0
x, H = bowl(1, 4e4) | sgd 3e-5 2000 | y = q(x, H) | across=4e4, along=1.0
x, H = bowl(1, 1e4) | sgd 1e-4 1000 | " | across=1e4, along=1.0
" | SGD(1e-5, momentum=0.9) - 1000 | " | across=1e4, along=1.0
x, H = bowl(1, 1e3) | sgd 1e-3 300 | " | across=1e3, along=1.0
x, H = bowl(0.01, 1, 1e4) | sgd 1e-4 1000 | " | across=1e4
x, H = bowl(*20*[1], *20*[1e5]) | sgd 1e-5 1000 | " | across=1e5, along=1.0
x = double([-1.2, 1.0]) | sgd 1e-3 1000 | y = (1 - x[0])**2 + 100*(x[1] - x[0]**2)**2 | says="a narrow valley"
x = var([-1.2, 1.0]) | sgd 5e-4 5000 | " | says="a narrow valley"
r = np.linspace(1, 200, 50, dtype="float32"); a = var(0.0); b = var(0.0);
    G = np.linalg.eigvalsh([[2*(r**2).mean(), 2*r.mean()], [2*r.mean(), 2]]) |
    sgd 2e-5 1000 | y = tf.reduce_mean((a*r + b - (r/2 + 300))**2) | across=G[1], along=G[0]
A = np.stack([np.ones(64), 200*X[:, 0]], 1).astype("float32"); G = np.linalg.eigvalsh(A.T @ A / 32);
    m = Dense(1, use_bias=False) | sgd 1e-5 1000 | y = tf.reduce_mean((m(A) - A @ [[5.0], [0.1]])**2) |
    across=G[1], along=G[0]
""",
    # Least squares with noise of variance 1: a rate r and batches of b add about 4r/b to the loss.
    FindingKind.NOISE_FLOOR: """
A = normal(256, 4); B = A @ np.arange(1, 5, dtype="float32") + normal(256); w = var(np.zeros(4)) |
    sgd 0.1 --for "xb, tb in (A, B)" --batch 2 --epochs 12 |
    y = tf.reduce_mean((tf.linalg.matvec(xb, w) - tb)**2) | rate=0.1, lower_rate=0.02, says="batches of 2"
" | sgd 0.2 --for "xb, tb in (A, B)" --batch 2 --epochs 20 | " | rate=0.2, lower_rate=0.05
" | sgd 0.1 --for "xb, tb in (A, B)" --batch 1 --epochs 10 | " | rate=0.1, says="--batch"
" | sgd 0.05 --for "xb, tb in (A, B)" --batch 1 --epochs 10 | " | rate=0.05, says="--lr 0.01"
" | sgd 0.2 --for "xb, tb in (A, B)" --batch 4 --epochs 20 | " | rate=0.2, says="batches of 4"
" | adam 0.3 --for "xb, tb in (A, B)" --batch 4 --epochs 20 | " | rate=0.3, says="batches of 4"
" | rmsprop 0.3 --for "xb, tb in (A, B)" --batch 4 --epochs 20 | " | rate=0.3, says="batches of 4"
" | SGD(0.02, momentum=0.9) - --for "xb, tb in (A, B)" --batch 2 --epochs 12 | " |
    rate=0.02, says="learning_rate="
m = Dense(1); A = normal(256, 4); B = A.sum(1, keepdims=True) + normal(256, 1) |
    sgd 0.1 --for "xb, tb in (A, B)" --batch 2 --epochs 12 | y = tf.reduce_mean((m(xb) - tb)**2) | rate=0.1
A = np.sign(normal(256)); B = 2*A + normal(256); w = var(0.0) |
    sgd 0.2 --for "xb, tb in (A, B)" --batch 2 --epochs 20 | y = tf.reduce_mean((xb*w - tb)**2) | rate=0.2
""",
    # Gradient descent multiplies x by 1 − λ·rate a step; Adam's first steps are as long as its rate.
    FindingKind.STILL_FALLING: """
x = double(1.0) | sgd 5e-5 100 | y = 100 * x**2 | before=100*0.99**180, end=100*0.99**200
" | sgd 5e-5 100 --engine eager | " | before=100*0.99**180, end=100*0.99**200
x = var(5.0) | sgd 0.005 60 | y = x**2 | before=25*0.99**108, end=25*0.99**120
x = var(100.0) | adam 0.1 100 | y = (x - 3)**2 | before=88.0**2, end=87.0**2
x = var(3.0) | sgd 1e-4 100 | y = x**4 | before=(1/9 + 8e-4*90)**-2, end=(1/9 + 8e-4*100)**-2
x, H = bowl(1, 2) | sgd 0.005 100 | y = q(x, H) | says="raise --steps or --lr"
w = var(np.zeros((8, 1))) | sgd 0.005 50 | y = tf.reduce_mean((X @ w - X @ np.ones((8, 1)))**2) |
    says="still falling"
" | sgd 0.1 50 | s = np.sign(X[:, :1]) ⏎ y = tf.reduce_mean(tf.nn.softplus(-s * (X @ w))) |
    says="still falling"
" | adagrad 0.01 100 | y = tf.reduce_mean((X @ w - X @ np.ones((8, 1)))**2) | says="still falling"
m = net(Dense(16, "relu")) | adam 0.001 50 | y = tf.reduce_mean((m(X) - t)**2) | says="still falling"
x = double([-1.2, 1.0]) | lbfgs - 14 | y = (1 - x[0])**2 + 100*(x[1] - x[0]**2)**2 | says="raise --steps"
""",
    # The elements of the unbounded minimum that lie beyond a bound.
    FindingKind.AT_BOUND: """
x = var(2.0) | - --bounds "x=0:" | y = (x + 1)**2 | elements=1, loss=1.0, says="its bound 0"
" | sgd 0.1 200 --bounds "x=0:" | " | elements=1, loss=1.0
" | adam 0.1 200 --bounds "x=0:" | " | elements=1, loss=1.0
" | rmsprop 0.1 200 --bounds "x=0:" --engine eager | " | elements=1, loss=1.0
x = var([0.0, 1.0]) | sgd 0.1 200 --bounds "x=-1:1" | y = tf.reduce_sum((x - 3)**2) | elements=2, loss=8.0
" | - --bounds "x=-1:1" | " | elements=2, loss=8.0
w = var(np.ones(4)) | - --bounds "w=0:" | y = tf.reduce_sum((w - [2.0, -1.0, 3.0, -4.0])**2) |
    elements=2, loss=17.0
" | - --bounds "w=-1.5:2.5" | " | elements=2, loss=6.5
x = var([-1.0, 0.0]) | - --bounds "x=-2:0.5" | y = (1 - x[0])**2 + 100*(x[1] - x[0]**2)**2 |
    elements=1, loss=0.25
w = var(np.ones((8, 1))) | - --bounds "w=0:" | y = tf.reduce_mean((X @ w + X @ np.ones((8, 1)))**2) |
    elements=8
A = normal(64)/10 - 1; w = var(1.0) | sgd 0.1 --bounds "w=0:" --for "r in A" --batch 8 --epochs 5 |
    y = tf.reduce_mean((w - r)**2) | elements=1
""",
}
