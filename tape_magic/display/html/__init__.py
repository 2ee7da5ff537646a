"""A document as HTML that an untrusted notebook shows too: inline styles, pictures as ``<img>``, no scripts.

Entrance: :func:`~tape_magic.display.html.render.to_html`.
Imports: `content`, `text` (for long lists), `pictures`.
"""
