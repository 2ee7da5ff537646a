"""The content of a report before any layout: documents, numbers as text, widths of text, reduced arrays.

Entrance: :class:`~tape_magic.display.content.document.Document`.
Imports: nothing of the package but `errors`; rich, when the width of a text is first asked for.
"""
