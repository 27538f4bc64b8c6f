"""feature_engineering: utterances and media -> streams -> development and sealed_test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.feature_engineering import nodes

EXTRACT: dict[str, Callable[..., Any]] = {
    "text": nodes.extract_text,
    "audio": nodes.after_text("audio"),
    "vision": nodes.after_text("vision"),
}


def create_pipeline() -> Pipeline:
    """Text, then audio and vision, then the cut."""
    made = [
        Node(
            function,
            [
                "utterances",
                "imported_streams",
                # Text comes first: its stream `text.word_times` tells the others where each word is.
                *([] if modality == "text" else ["text_streams"]),
                "media_root",
                "params:features",
                "feature_folder",
                "cache",
                "params:branches",
            ],
            f"{modality}_streams",
            name=f"extract_{modality}",
        )
        for modality, function in EXTRACT.items()
    ]
    streams = ["imported_streams", *(f"{modality}_streams" for modality in EXTRACT)]
    cut = Node(nodes.cut, ["utterances", *streams], ["development", "sealed_test"], name="cut")
    return Pipeline(
        [*made, cut],
        namespace="feature_engineering",
        inputs={"utterances", "imported_streams", "media_root", "feature_folder", "cache"},
        outputs={"development", "sealed_test"},
        parameters={"features", "branches"},
    )
