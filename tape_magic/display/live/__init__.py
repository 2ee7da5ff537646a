"""What is shown while something runs: panels, the terminal's line, the inspector.

Entrance: `panel`, `terminal`, `inspector`, `watch`.
Imports: all of the display, and the results.

"""
