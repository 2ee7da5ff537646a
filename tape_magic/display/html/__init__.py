"""A document as HTML that an untrusted notebook shows too.

Entrance: :func:`~tape_magic.display.html.render.to_html`.
Imports: `content`, `text`, `pictures`.

"""
