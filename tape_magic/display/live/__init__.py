"""Displays that move: the panel and the terminal's line of a run, the watch of the devices, the inspector.

Entrance: `panel.WidgetProgress`, `terminal.TerminalProgress`, `inspector.inspect`, `watch.WatchView`.
Imports: all of the display, and the results; ipywidgets and rich when a display opens.
"""
