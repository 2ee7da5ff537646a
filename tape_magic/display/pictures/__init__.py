"""Curves, heat maps and other pictures, as SVG and PNG.

Entrance: `curve`, `heat`, `points`, `watch`.
Imports: `content`.

"""
