"""How results look: a result becomes a document once, which text and HTML lay out.

Entrance: `describe.describe` for the document, `text.render.to_text` and `html.render.to_html` for the
layouts; `live` for what moves, and `plots` for Matplotlib.
Imports: the results. TensorFlow is never imported here, and no derivative is computed.
"""
