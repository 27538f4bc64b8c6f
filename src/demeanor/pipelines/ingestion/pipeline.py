"""ingestion: raw corpus -> utterances, streams that come with it, the doctor's report."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.ingestion import nodes


def create_pipeline() -> Pipeline:
    """Read, probe, examine, keep what is usable."""
    return Pipeline(
        [
            Node(nodes.read_corpus, ["params:corpus", "imported_folder"], "raw_corpus", name="read_corpus"),
            Node(nodes.probe_media, "raw_corpus", "media_probes", name="probe_media"),
            Node(
                nodes.examine_corpus,
                ["raw_corpus", "media_probes", "params:doctor"],
                ["doctor_findings", "doctor_report", "doctor_text"],
                name="examine_corpus",
            ),
            Node(
                nodes.keep_usable,
                ["raw_corpus", "doctor_findings", "params:doctor"],
                "usable",
                name="keep_usable",
            ),
            Node(
                nodes.recognise_speech,
                ["raw_corpus", "usable", "params:recognition"],
                ["utterances", "recognised_words"],
                name="recognise_speech",
            ),
            Node(
                nodes.decode_audio_tracks,
                ["raw_corpus", "utterances", "recognised_words", "imported_folder", "cache", "params:workers"],
                ["imported_streams", "media_root"],
                name="decode_audio_tracks",
            ),
        ],
        namespace="ingestion",
        inputs={"imported_folder", "cache"},
        outputs={"utterances", "imported_streams", "media_root"},
        parameters={"corpus", "doctor", "recognition", "workers"},
    )
