"""What a report consists of, whatever it reports, before any layout: documents, numbers, widths.

Entrance: :class:`~tape_magic.display.content.document.Document`.
Imports: nothing of the display.

"""
