"""Runs of which nothing may be said: TensorFlow's and Keras's tutorials on small data, classical functions.

A run that ended on its way is none: what still falls may be called so. See ``cases.py``.
"""

from __future__ import annotations

HEALTHY = """
x = var(0.0) | - | y = (x - 3)**2
" | sgd 0.1 200 | "
" | adam 0.1 500 | "
" | sgd 0.49 100 | "
" | sgd 0.05 | y = (x - 3)**2 + 1000
" | nadam 0.1 400 | y = (x - 3)**2
x = var(3.0) | - | y = x**4
" | sgd 0.01 3000 | "
" | - | y = tf.abs(x - 1)
" | adam 0.01 2000 --tol 1e-4 | "
" | sgd 1e-4 20000 --target 5 | y = x**2
" | sgd 0.001 9 | "
" | SGD(keras.optimizers.schedules.ExponentialDecay(0.2, 50, 0.5)) - 500 | y = x**2 + 1
x = var([-1.2, 1.0]) | - | y = (1 - x[0])**2 + 100*(x[1] - x[0]**2)**2
" | adam 0.02 | "
" | SGD(1e-4, momentum=0.9, nesterov=True) - 20000 --engine graph | "
x = var([0.0, 0.0]) | - | y = (x[0]**2 + x[1] - 11)**2 + (x[0] + x[1]**2 - 7)**2
" | sgd 0.01 500 | "
" | rmsprop 0.001 5000 --tol 1e-3 | "
x = double([1.0, 1.0]) | - |
    u, v = x[0], x[1] ⏎ y = (1.5 - u + u*v)**2 + (2.25 - u + u*v**2)**2 + (2.625 - u + u*v**3)**2
" | adam 0.05 | "
" | - | y = (x[0] + 2*x[1] - 7)**2 + (2*x[0] + x[1] - 5)**2
" | adagrad 0.5 1000 | "
x = var([2.1, -1.2]) | - | y = 20 + tf.reduce_sum(x**2 - 10*tf.cos(6.2831853*x))
" | sgd 1e-3 500 | "
x = double([3.0, -1.0, 0.0, 1.0]) | - |
    y = (x[0] + 10*x[1])**2 + 5*(x[2] - x[3])**2 + (x[1] - 2*x[2])**4 + 10*(x[0] - x[3])**4
x = double(np.zeros(6)) | sgd 0.1 | y = tf.reduce_sum((x - 1)**2) - tf.reduce_sum(x[1:] * x[:-1])
x, H = bowl(1, 1000) | sgd 1e-3 10000 --engine graph | y = q(x, H)
x, H = bowl(0.01, 1e4) | - | "
x = var([3.0, 1e-3]) | sgd 0.05 | y = x[0]**2 - x[1]**2 + x[1]**4/4
x = var(2.0) | sgd 0.1 100 --bounds "x=0:3" | y = (x - 1)**2
w = var(np.zeros((8, 1))); b = var(0.0) | - | p = X @ w + b ⏎ y = tf.reduce_mean((p - t)**2)
" | sgd 0.1 300 | "
" | adam 0.05 | "
" | sgd 0.05 --for "xb, tb in (X, t)" --batch 16 --epochs 40 |
    p = xb @ w + b ⏎ y = tf.reduce_mean((p - tb)**2)
" | adam 0.01 --for "xb, tb in (X, t)" --batch 32 --epochs 60 | "
" | sgd 1e-4 --for "xb, tb in (X, t)" --batch 8 --epochs 10 | "
" | adam 0.01 800 | p = X @ w + b ⏎ y = tf.reduce_mean((p - t)**2) + 0.1*tf.reduce_sum(tf.abs(w))
" | - | p = X @ w + b ⏎ y = tf.reduce_mean(tf.where(abs(p - t) < 1, (p - t)**2/2, abs(p - t) - 0.5))
" | adam 0.02 1000 --tol 1e-3 | e = t - (X @ w + b) ⏎ y = tf.reduce_mean(tf.maximum(0.9*e, -0.1*e))
" | - | y = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(cc, X @ w + b)) + 1e-3*tf.reduce_sum(w**2)
" | sgd 0.5 1500 | "
" | sgd 0.5 500 | p = tf.sigmoid(X @ w + b) ⏎ y = -tf.reduce_mean(cc*tf.math.log(p) + (1-cc)*tf.math.log(1-p))
" | adam 0.05 1000 | y = tf.reduce_mean(tf.nn.relu(1 - (2*cc - 1)*(X @ w + b))) + 0.01*tf.reduce_sum(w**2)
" | SGD(0.05, weight_decay=0.01) - 1000 | y = tf.reduce_mean((X @ w + b - t)**2)
" | Adam(0.05, use_ema=True) - 400 | "
" | sgd 0.1 200 | y = tf.reduce_mean((tf.cast(X, tf.float64) @ tf.cast(w, tf.float64) - t)**2)
w = var(np.zeros((8, 4))) | - | y = ce(k, X @ w) + 1e-3*tf.reduce_sum(w**2)
" | rmsprop 0.01 --for "xb, kb in (X, k)" --batch 16 --epochs 30 | y = ce(kb, xb @ w)
m = net(Dense(16, "relu")) | adam 0.01 400 --target 0.1 | y = tf.reduce_mean((m(X) - t)**2)
m = net(Dense(16, "relu"), Dense(16, "relu")) | adam 0.01 --for "xb, tb in (X, t)" --batch 16 --epochs 30 |
    y = tf.reduce_mean((m(xb) - tb)**2)
" | rmsprop 0.003 --for "xb, tb in (X, t)" --batch 16 --epochs 20 | "
" | SGD(0.01, momentum=0.9) - --for "xb, tb in (X, t)" --batch 16 --epochs 30 | "
" | AdamW(0.003, weight_decay=0.01) - --for "xb, tb in (X, t)" --batch 8 --epochs 15 | "
m = net(Dense(16, "tanh"), Dense(16, "tanh")) | sgd 0.05 --for "xb, tb in (X, t)" --batch 8 --epochs 30 | "
" | - | y = tf.reduce_mean((m(X) - t)**2)
m = net(Dense(16, "gelu")) | adam 0.01 3000 --tol 1e-4 | "
m = net(Dense(16, "sigmoid"), Dense(16, "sigmoid")) | adam 0.02 --for "xb, tb in (X, t)" --epochs 60 |
    y = tf.reduce_mean((m(xb) - tb)**2)
m = net(Dense(32, "relu", kernel_regularizer="l2")) |
    adam 0.003 --for "xb, tb in (X, t)" --batch 16 --epochs 30 |
    y = tf.reduce_mean((m(xb) - tb)**2) + sum(m.losses)
m = net(Dense(32, "relu"), L.Dropout(0.5)) | adam 0.01 --for "xb, tb in (X, t)" --batch 16 --epochs 20 |
    y = tf.reduce_mean((m(xb, training=True) - tb)**2)
m = net(Dense(32), L.BatchNormalization(), L.ReLU()) |
    adam 0.01 --for "xb, tb in (X, t)" --batch 16 --epochs 20 | "
m = net(Dense(32, "relu"), out=4) | adam 0.01 --for "xb, kb in (X, k)" --batch 16 --epochs 30 |
    y = ce(kb, m(xb))
m = keras.Sequential([Input((8,)), Dense(16, "relu"), Dense(4, "softmax")]) |
    adam 0.01 --for "xb, kb in (X, k)" --batch 16 --epochs 20 |
    y = keras.losses.SparseCategoricalCrossentropy()(kb, m(xb))
m = keras.Sequential([Input((8,)), Dense(16, "relu"), Dense(1, "sigmoid")]) | adam 0.01 2000 --target 0.3 |
    y = keras.losses.BinaryCrossentropy()(cc, m(X))
m = net(*[Dense(32, "relu", kernel_initializer="he_normal") for _ in range(8)]) |
    sgd 0.003 --for "xb, tb in (X, t)" --batch 16 --epochs 10 | y = tf.reduce_mean((m(xb) - tb)**2)
m = net(*[layer for _ in range(5) for layer in (Dense(32), L.BatchNormalization(),
    L.Activation("sigmoid"))]) |
    adam 0.01 --for "xb, tb in (X, t)" --batch 16 --epochs 10 |
    y = tf.reduce_mean((m(xb, training=True) - tb)**2)
m = net(L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), out=2, rows=(12, 12, 1)) |
    adam 0.003 --for "xb, tb in (im, il)" --batch 8 --epochs 10 | y = ce(tb, m(xb))
m = net(L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D(), out=2, rows=(12, 12,
    1)) |
    " | y = ce(tb, m(xb, training=True))
m = net(L.Conv2D(8, 3, 2), L.ReLU(6.0), L.DepthwiseConv2D(3), L.GlobalMaxPooling2D(), out=2, rows=(12, 12,
    1)) |
    sgd 0.01 --for "xb, tb in (im, il)" --batch 8 --epochs 10 | y = ce(tb, m(xb))
m = net(L.Embedding(20, 8), L.LSTM(8), out=2, rows=(10,)) |
    adam 0.01 --for "xb, tb in (ids, il2)" --batch 8 --epochs 6 | y = ce(tb, m(xb))
m = net(L.Embedding(20, 8, mask_zero=True), L.GRU(8), out=2, rows=(10,)) | " | "
m = net(L.Embedding(20, 8), L.Bidirectional(L.SimpleRNN(8)), out=2, rows=(10,)) | " | "
m = net(L.Embedding(20, 8), L.GlobalAveragePooling1D(), out=2, rows=(10,)) | " | "
m = net(L.Conv1D(8, 3, activation="relu"), L.GlobalMaxPooling1D(), rows=(6, 3)) |
    adam 0.01 --for "xb, tb in (S, ts)" --batch 8 --epochs 10 | y = tf.reduce_mean((m(xb) - tb)**2)
i = Input((6, 3)); o = L.MultiHeadAttention(2, 4)(i, i); o = L.LayerNormalization()(i + o);
    m = keras.Model(i, Dense(1)(L.GlobalAveragePooling1D()(o))) | " | "
i = Input((10,)); o = L.Embedding(20, 16)(i); o = o + L.MultiHeadAttention(2, 8)(o, o, use_causal_mask=True);
    o = o + Dense(16)(Dense(32, "relu")(L.LayerNormalization()(o))); m = keras.Model(i, Dense(20)(o)) |
    adam 0.003 --for "xb in ids" --batch 8 --epochs 8 | y = ce(xb, m(xb))
i = Input((8,)); o = Dense(16)(i); o = o + Dense(16)(Dense(16, "relu")(o)); o = o + Dense(16)(Dense(16,
    "relu")(o));
    m = keras.Model(i, Dense(1)(o)) | adam 0.003 --for "xb, tb in (X, t)" --batch 16 --epochs 15 |
    y = tf.reduce_mean((m(xb) - tb)**2)
m = net(Dense(3, "relu"), out=8) | adam 0.01 --for "xb in X" --batch 16 --epochs 40 |
    y = tf.reduce_mean((m(xb) - xb)**2)
m = net(Dense(32, "relu", activity_regularizer=keras.regularizers.L1(1e-3)), out=8) | " |
    y = tf.reduce_mean((m(xb) - xb)**2) + sum(m.losses)
e = net(Dense(16, "relu"), out=4); d = net(Dense(16, "relu"), out=8, rows=(2,)) |
    adam 0.003 --for "xb in X" --batch 16 --epochs 20 | μ, s = tf.split(e(xb), 2, 1) ⏎
    z = μ + tf.exp(s/2) * tf.random.normal(tf.shape(μ)) ⏎
    y = tf.reduce_mean((d(z) - xb)**2) - 0.01*tf.reduce_mean(1 + s - μ**2 - tf.exp(s))
g = net(Dense(16, "relu"), out=8, rows=(4,)); d = net(Dense(16, "leaky_relu")) |
    adam 0.003 --over d --for "xb in X" --batch 16 --epochs 15 |
    real, fake = d(xb), d(g(tf.random.normal((16, 4)))) ⏎
    y = tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))
" | adam 0.003 100 --over g | y = tf.reduce_mean(tf.nn.softplus(-d(g(tf.random.normal((32, 4))))))
E = var(0.1*normal(20, 8)); C = var(0.1*normal(20, 8)); A = rng.integers(0, 20, (256, 2)) |
    adam 0.02 --for "ab in A" --batch 32 --epochs 20 |
    y = ce(ab[:, 1], tf.gather(E, ab[:, 0]) @ tf.transpose(C))
U = var(normal(12, 2)); V = var(normal(2, 10)); A = normal(12, 2) @ normal(2, 10) | - |
    y = tf.reduce_mean((U @ V - A)**2)
" | sgd 0.2 3000 | "
c3 = var(X[:3, :2]) | sgd 0.1 |
    y = tf.reduce_mean(tf.reduce_min(tf.reduce_sum((X[:, None, :2] - c3)**2, -1), 1))
w = var(0.3*normal(8, 4)) | adam 0.05 200 | z = tf.math.l2_normalize(X @ w, 1) ⏎
    d = tf.reduce_sum((z[:20] - z[20:40])**2, 1) - tf.reduce_sum((z[:20] - z[40:60])**2, 1) ⏎
    y = tf.reduce_mean(tf.nn.relu(d + 0.2))
r = np.linspace(0, 4, 40); a = double(1.0); b = double(1.0); o = double(0.0) | - |
    y = tf.reduce_mean((a*tf.exp(-b*r) + o - (2.5*np.exp(-1.3*r) + 0.5))**2)
" | adam 0.02 1500 | y = tf.reduce_mean((a*tf.exp(-b*r) + o - (2.5*np.exp(-1.3*r) + 0.5 +
    0.02*np.sin(40*r)))**2)
" | - | y = tf.reduce_mean((tf.sin((a + 0.9)*r + b) - np.sin(2*r + 0.8))**2) + o**2
μ = var(0.0); s = var(0.0) | adam 0.05 1000 | y = tf.reduce_mean(((X - μ) / tf.exp(s))**2 / 2 + s)
m = net(Dense(20, "tanh"), Dense(20, "tanh"), rows=(1,)); r = tf.linspace(0.0, 2.0, 40)[:, None] |
    adam 0.005 400 |
    with tf.GradientTape() as tape: ⏎     tape.watch(r) ⏎     u = m(r) ⏎
    y = tf.reduce_mean((tape.gradient(u, r) + u)**2) + (m(r[:1])[0, 0] - 1)**2
A, b, V, u = sets(5, 100, 100, 1.0); w = var(np.zeros(5)) |
    sgd 0.02 --for "xb, tb in (A, b)" --batch 20 --epochs 30 --val "xb, tb in (V, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2)
" | sgd 0.02 --for "xb, tb in (A, b)" --batch 5 --epochs 20 --val "xb, tb in (V[:12], u[:12])" | "
" | adam 0.01 --for "xb, tb in (A, b)" --batch 20 --epochs 40 --val "xb, tb in (V, u)" --patience 5 | "
A, b, V, u = sets(30, 40, 200, 1.0); w = var(np.zeros(30)) |
    sgd 0.05 --for "xb, tb in (A, b)" --batch 40 --epochs 150 --val "xb, tb in (V, u)" --keep best | "
" | " --patience 5 | "
" | sgd 0.01 --for "xb, tb in (A, b)" --batch 40 --epochs 150 --val "xb, tb in (V, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2) + tf.reduce_sum(w**2)
D = np.diag([3.0, 0.3]).astype("float32"); b, u = (D @ np.float32([one, 9]) for one in (1, 0.6));
    w = var([0.0, 0.0]) |
    sgd 0.03 --for "xb, tb in (D, b)" --batch 2 --epochs 2000 --val "xb, tb in (D, u)" |
    y = tf.reduce_mean((mv(xb, w) - tb)**2)
m = net(Dense(16, "relu"), L.Dropout(0.3)); A = normal(300, 8);
    B = A[:, :1] + 0.3*normal(300, 1) | adam 0.003 --for "xb, tb in (A[:200], B[:200])" --batch 20 --epochs 25
    --val "xb, tb in (A[200:], B[200:])" |
    p = m(xb, training=TRAINING) ⏎ y = tf.reduce_mean((p - tb)**2)
m = net(Dense(16, "relu"), L.BatchNormalization(), out=2); A = normal(400, 8);
    B = (A[:, 0] + A[:, 1] > 0).astype("int32") | adam 0.003 --for "xb, tb in (A[:300], B[:300])" --batch 32
    --epochs 20 --val "xb, tb in (A[300:], B[300:])" |
    p = m(xb, training=TRAINING) ⏎ y = ce(tb, p)
m = net(Dense(16, "relu"), out=2); A = normal(400, 8); B = (A[:, 0] > 0).astype("int32") |
    adam 0.01 --for "xb, tb in (A[:300], B[:300])" --batch 30 --epochs 15
    --val "xb, tb in (A[300:], B[300:])" | y = ce(tb, m(xb))
m = net(Dense(16, "tanh")); A = normal(200, 8); B = np.sin(A[:, :1]) |
    adam 0.01 --for "xb, tb in (A[:150], B[:150])" --batch 25 --epochs 30
    --val "xb, tb in (A[150:], B[150:])" |
    y = tf.reduce_mean((m(xb) - tb)**2)
"""
