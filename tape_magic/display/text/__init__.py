"""A document as plain text.

Entrance: :func:`~tape_magic.display.text.render.to_text`.
Imports: `content`.

"""
