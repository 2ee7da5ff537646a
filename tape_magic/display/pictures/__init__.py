"""Curves, heat maps, histograms and scatter plots as SVG and PNG, drawn without Matplotlib.

Entrance: `curve.curve`, `heat.heat_picture`, `points.histogram`, `watch.watch_picture`, and `svg` for the
small marks in tables.
Imports: `content`.
"""
