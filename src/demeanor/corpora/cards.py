"""Licence, citation and published size of the corpora that the readers know."""

from __future__ import annotations

from demeanor.corpora.base import Card

RESEARCH = "research use only; the recordings belong to their owners (YouTube, CMU MultiComp Lab)"

CARDS = {
    "mosi": Card(
        "CMU-MOSI", RESEARCH,
        "Zadeh et al., Multimodal Sentiment Intensity Analysis in Videos: Facial Gestures and Verbal Messages, "
        "IEEE Intelligent Systems 31(6), 2016",
        {"train": 1284, "valid": 229, "test": 686},
    ),
    "mosei": Card(
        "CMU-MOSEI", RESEARCH,
        "Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion "
        "Graph, ACL 2018",
        {"train": 16326, "valid": 1871, "test": 4659},
    ),
    "mosi_sdk": Card(
        "CMU-MOSI (Multimodal SDK, standard folds)", RESEARCH,
        "Zadeh et al., Multi-attention Recurrent Network for Human Communication Comprehension, AAAI 2018",
        {"train": 1283, "valid": 214, "test": 686},
    ),
    "mosei_sdk": Card(
        "CMU-MOSEI (Multimodal SDK, standard folds)", RESEARCH,
        "Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion "
        "Graph, ACL 2018",
        {"train": 16327, "valid": 1871, "test": 4662},
    ),
    "sims": Card(
        "CH-SIMS", "research use only (THUIAR); the recordings belong to their owners",
        "Yu et al., CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of "
        "Modality, ACL 2020",
        {"train": 1368, "valid": 456, "test": 457},
    ),
    "simsv2": Card(
        "CH-SIMS v2.0 (supervised part)", "research use only (THUIAR); the recordings belong to their owners",
        "Liu et al., Make Acoustic and Visual Cues Matter: CH-SIMS v2.0 Dataset and AV-Mixup Consistent Module, "
        "ICMI 2022",
        {"train": 2722},
    ),
    "iemocap": Card(
        "IEMOCAP", "released by USC SAIL on request for research use only",
        "Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, Language Resources and "
        "Evaluation 42(4), 2008",
    ),
    "meld": Card(
        "MELD", "GPL-3.0 (declare-lab/MELD); the recordings are scenes of a television series",
        "Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019",
        {"train": 9989, "valid": 1109, "test": 2610},
    ),
    "ravdess": Card(
        "RAVDESS (speech)", "CC BY-NC-SA 4.0",
        "Livingstone and Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5), 2018",
    ),
    "mosi_utterances": Card(
        "CMU-MOSI, utterance-level features", f"no licence stated with the features; CMU-MOSI: {RESEARCH}",
        "Poria et al., Context-Dependent Sentiment Analysis in User-Generated Videos, ACL 2017",
        {"train": 1447, "test": 752},
    ),
    "demo": Card(
        "Demeanor's synthetic demo corpus", "Apache-2.0; synthetic speech and drawn faces, no person is recorded",
        "made by demeanor.corpora.demo; no publication", synthetic=True,
    ),
}  # fmt: skip


def card_for(name: str) -> Card:
    """The card of a known corpus, else one that says that the licence is the owner's to state."""
    plain = name.removesuffix("-synthetic").removesuffix("_words").removesuffix("_recordings")
    return CARDS.get(name) or CARDS.get(plain) or Card(name)


def is_synthetic(corpora: str) -> bool:
    """Is one of these corpora (names, separated by commas, as in a bundle's protocol) known to be made by a program?"""
    return any(card_for(name.strip()).synthetic for name in corpora.split(","))
