"""What checks the annotations of demeanor's functions, shapes among them, whenever a test calls one.

pyproject.toml names it to jaxtyping's pytest plugin. An integer is as good as a float.
"""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
