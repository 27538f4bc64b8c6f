"""The page on the architecture says what the imports say."""

from __future__ import annotations

from tests.architecture import END, PAGE, PICTURE, START, imports, layers, table


def test_the_pages_table_is_that_of_the_imports():
    written = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0].strip()
    assert written == table(), "run `python -m tests.architecture`"
    assert PICTURE.stat().st_size > 10_000


def test_no_import_leads_up_or_sideways():
    depth = {name: number for number, layer in enumerate(layers()) for name in layer}
    crossing = imports()
    assert [pair for pair in crossing if depth[pair[0]] >= depth[pair[1]]] == []
    assert crossing["models", "kernels"] > 0
