"""Imports go down the layers. (That the page on the architecture says what they are, tests/test_pages.py holds.)"""

from __future__ import annotations

from tests.architecture import imports, layers


def test_no_import_leads_up_or_sideways():
    depth = {name: number for number, layer in enumerate(layers()) for name in layer}
    crossing = imports()
    assert [pair for pair in crossing if depth[pair[0]] >= depth[pair[1]]] == []
    assert crossing["models", "kernels"] > 0
