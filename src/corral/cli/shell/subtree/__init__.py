"""Work on whole subtrees: drawing, searching, measuring, comparing, copying, moving, exporting, importing.

The algorithms are async functions over :class:`corral.client.Client`; ``looking`` and ``changing`` make commands of the
shell of them.
"""
