"""Extractors: media or text in, ragged features out. The registry names them without importing any."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from demeanor.data.errors import InputError, ProvenanceError, nearest

if TYPE_CHECKING:
    from demeanor.data.provenance import Provenance
    from demeanor.data.settings import Settings
    from demeanor.features.base import Extractor

#: name -> "module:Class"; a new extractor is one class and one line here.
EXTRACTORS: dict[str, str] = {
    "waveform": "demeanor.features.audio:Waveform",
    "opensmile_lld": "demeanor.features.audio:OpenSmileDescriptors",
    "opensmile_functionals": "demeanor.features.audio:OpenSmileFunctionals",
    "librosa_frames": "demeanor.features.spectral:LibrosaFrames",
    "librosa_functionals": "demeanor.features.spectral:LibrosaFunctionals",
    "hf_tokens": "demeanor.features.tokens:Tokens",
    "hf_words": "demeanor.features.text:WordStates",
    "hf_sentence": "demeanor.features.text:SentenceState",
    "mel_spectrogram": "demeanor.features.spectrogram:MelSpectrogram",
    "vq_wav2vec_codes": "demeanor.features.speech_codes:SpeechCodes",
    "vq_wav2vec_ids": "demeanor.features.speech_codes:SpeechCodeIds",
    "hf_context": "demeanor.features.context:ContextWindow",
    "hf_context_tokens": "demeanor.features.context:ContextTokens",
    "hf_turn_tokens": "demeanor.features.turns:TurnTokens",
    "glove": "demeanor.features.glove:WordVectorStream",
    "roberta_bpe": "demeanor.features.bpe:BytePairIds",
    "ctc_word_times": "demeanor.features.alignment:ForcedWordTimes",
    "uniform_word_times": "demeanor.features.alignment:UniformWordTimes",
    "per_word": "demeanor.features.per_word:FramesPerWord",
    "openface_csv": "demeanor.features.openface:OpenFaceTables",
    "hf_speech": "demeanor.features.speech:SpeechStates",
    "hf_speech_statistics": "demeanor.features.speech_statistics:SpeechStatistics",
    "hf_image": "demeanor.features.pictures:ImageStates",
    "hf_video": "demeanor.features.pictures:VideoStates",
    "face_descriptors": "demeanor.features.vision:FaceDescriptors",
    "face_mesh": "demeanor.features.face_mesh:FaceMesh",
}


def extractor_class(name: str) -> type[Extractor]:
    """The class of a registered extractor; InputError, with the nearest name, for an unknown one."""
    if name not in EXTRACTORS:
        raise InputError("extractors", [f"there is no extractor '{name}'.{nearest(name, EXTRACTORS)}"])
    module, _, attribute = EXTRACTORS[name].partition(":")
    return getattr(import_module(module), attribute)


def find_extractor(name: str, settings: Settings | dict[str, Any] | None = None) -> Extractor:
    """The extractor of that name; settings are checked now, weights are loaded when first needed. InputError for an
    unknown name, or with everything that is wrong with the settings.

    Beside an extractor's own settings stands `stored`, where its values are stored in half precision.
    """
    from pydantic import ValidationError

    from demeanor.features.base import STORED

    kind = extractor_class(name)
    stored = settings.get(STORED) if isinstance(settings, dict) else None
    if isinstance(settings, dict):
        settings = {key: value for key, value in settings.items() if key != STORED}
    try:
        extractor = kind(settings)
        return extractor if stored is None else extractor.stored_as(stored)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
        raise InputError(f"settings of extractor '{name}'", problems) from None


def extractor_from(provenance: Provenance, stream: str = "") -> Extractor:
    """The extractor that made a stream, built again here.

    ProvenanceError with the differences where it is not the same (another library version, other weights), or
    where the stream cannot be made from a recording at all.
    """
    label = stream or provenance.extractor
    if not provenance.recomputable or provenance.extractor not in EXTRACTORS:
        raise ProvenanceError(
            f"stream '{label}' cannot be made from a recording: it was imported by '{provenance.extractor}'"
            f"{' (' + provenance.notes + ')' if provenance.notes else ''}.\n"
            "Score rows that carry this stream, or train on streams that feature_engineering makes."
        )
    known = {*extractor_class(provenance.extractor).settings_type.model_fields, "stored"}
    settings = {key: value for key, value in provenance.parameters.items() if key in known}
    extractor = find_extractor(provenance.extractor, settings)
    provenance.require(extractor.provenance(), label)
    return extractor
