"""evaluation: sealed_test and bundles -> receipts, comparison, figures, champions in the registry."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.branches import selected
from demeanor.pipelines.evaluation import nodes


def create_pipeline() -> Pipeline:
    bundles = {branch: f"{branch}_bundles" for branch in selected()}
    histories = {branch: f"{branch}_history" for branch in selected()}
    tasks, settings = "params:tasks", "params:evaluation"
    return Pipeline(
        [
            Node(
                nodes.choose_champions,
                {"development": "development", **bundles},
                "champions",
                name="choose_champions",
            ),
            Node(
                nodes.score_sealed_test,
                {"sealed_test": "sealed_test", **bundles},
                ["predictions", "receipts"],
                name="score_sealed_test",
                tags="tracked",
            ),
            Node(
                nodes.compare_systems,
                ["predictions", "receipts", "champions", "development", tasks, settings],
                ["comparison", "comparison_text"],
                name="compare_systems",
            ),
            Node(
                nodes.ablate_modalities,
                {"sealed_test": "sealed_test", "champions": "champions", "settings": settings, **bundles},
                "ablation",
                name="ablate_modalities",
            ),
            Node(nodes.draw_comparison, ["comparison", tasks, settings], "comparison_figure", name="draw_comparison"),
            Node(
                nodes.draw_answers,
                ["predictions", "champions", tasks],
                ["scatter_figure", "confusion_figure"],
                name="draw_answers",
            ),
            Node(nodes.draw_ablation, ["ablation", tasks], "ablation_figure", name="draw_ablation"),
            Node(nodes.draw_training, {"tasks": tasks, **histories}, "training_figure", name="draw_training"),
            Node(
                nodes.register_champions,
                {
                    "champions": "champions",
                    "receipts": "receipts",
                    "utterances": "utterances",
                    "root": "media_root",
                    "settings": settings,
                    **bundles,
                },
                "registration",
                name="register_champions",
                tags="tracked",
            ),
            Node(
                nodes.summarise,
                ["comparison", "champions", "registration", tasks, settings],
                "summary",
                name="summarise",
                tags="tracked",
            ),
        ]
    )
