"""When XLA pays; the order in which engines are tried."""

from __future__ import annotations

XLA_SHARE = 2.0
"""XLA takes about so many times as long for a loop as the trace and the graph, for 10 to 500 variables."""

XLA_LEAST = 0.3
"""Seconds that it takes at least."""

WORTH = 1.5
"""XLA compiles beside a graph's steps where these are to take so many times as long, since it slows them."""

EARLY = "over before XLA would have been ready"
"""Why a run ended as a graph that began as one."""
