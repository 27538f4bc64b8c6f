"""The tables of the documentation say what the registries say."""

from __future__ import annotations

import pytest

from tests.pages import TABLES, shown


@pytest.mark.parametrize(("page", "name"), TABLES)
def test_a_table_is_that_of_its_registry(page: str, name: str):
    assert shown(page, name) == TABLES[page, name](), "run `make lint`, which writes it"
