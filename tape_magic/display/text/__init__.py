"""A document as plain text of 80 columns.

Entrance: :func:`~tape_magic.display.text.render.to_text`, and `encoding.writable` for streams that lack
characters.
Imports: `content`.
"""
