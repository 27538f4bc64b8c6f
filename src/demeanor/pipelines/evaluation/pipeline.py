"""evaluation: sealed_test and bundles -> receipts, comparison, figures, champions in the registry."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.evaluation import asking, nodes, reasons, registering, report, trust
from demeanor.pipelines.evaluation.drawing import DRAWINGS
from demeanor.pipelines.evaluation.settings import SETTINGS, TASKS


def create_pipeline() -> Pipeline:
    """The nodes, and those of every figure that `drawing` draws."""
    return Pipeline(
        [
            Node(
                nodes.keep_selected, ["bundles", "params:branches", "params:joined"], "candidates", name="keep_selected"
            ),
            Node(nodes.choose_champions, ["development", "candidates"], "champions", name="choose_champions"),
            Node(
                nodes.score_sealed_test,
                ["sealed_test", "candidates"],
                ["predictions", "receipts"],
                name="score_sealed_test",
                tags="tracked",
            ),
            Node(
                nodes.compare_systems,
                ["predictions", "receipts", "champions", "candidates", "development", TASKS, SETTINGS],
                ["comparison", "comparison_text", "verdicts"],
                name="compare_systems",
            ),
            Node(
                asking.ask_champions,
                ["sealed_test", "champions", "candidates", "predictions"],
                "subset_answers",
                name="ask_champions",
            ),
            Node(
                reasons.ablate_modalities,
                ["subset_answers", "sealed_test", "champions", TASKS, SETTINGS],
                "ablation",
                name="ablate_modalities",
            ),
            Node(
                asking.gather_calibrated,
                ["sealed_test", "predictions", "candidates", TASKS],
                "calibrated_answers",
                name="gather_calibrated",
            ),
            *(Node(one.function, one.inputs, one.figures, name=one.function.__name__) for one in DRAWINGS),
            Node(
                trust.examine_trust,
                ["calibrated_answers", "sealed_test", "development", "champions", TASKS, SETTINGS],
                ["trust", "slices"],
                name="examine_trust",
                tags="tracked",
            ),
            Node(
                reasons.explain_champions,
                ["subset_answers", "sealed_test", "champions", "candidates", SETTINGS],
                ["contributions", "reasons"],
                name="explain_champions",
            ),
            Node(
                report.write_report,
                [
                    "summary",
                    "comparison",
                    "trust",
                    "slices",
                    "reasons",
                    "champions",
                    "candidates",
                    "robustness",
                    "comparison_figure",
                    "scatter_figure",
                    "confusion_figure",
                    "ablation_figure",
                    "reliability_figure",
                    "risk_coverage_figure",
                ],
                "report",
                name="write_report",
            ),
            Node(
                registering.register_champions,
                ["champions", "receipts", "utterances", "media_root", SETTINGS, "candidates", "development", "slices"],
                "registration",
                name="register_champions",
                tags="tracked",
            ),
            Node(
                registering.summarise,
                ["comparison", "verdicts", "champions", "registration", TASKS, SETTINGS],
                "summary",
                name="summarise",
                tags="tracked",
            ),
        ],
        namespace="evaluation",
        inputs={"bundles", "development", "sealed_test", "utterances", "media_root", "robustness"},
        outputs={"comparison", "registration", "summary", "report"},
        parameters={"branches", "joined", "tasks", "evaluation"},
    )
