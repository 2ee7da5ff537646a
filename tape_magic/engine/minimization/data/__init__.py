"""Batches of the user's data, from any position of any epoch.

Entrance: :class:`~tape_magic.engine.minimization.data.feed.Feed`.
Imports: `values`.
"""
