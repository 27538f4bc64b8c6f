"""ELAN's EAF 3.0: of every speaker a tier of words, below it one per task; classes are a controlled vocabulary."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from demeanor.data.errors import InputError
from demeanor.timeline.formats.textgrid import JOINT, NOBODY, lanes
from demeanor.timeline.formats.wording import answer_text
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Timeline, milliseconds

WORDS, SCORES = "words", "scores"
#: Bytes of an annotation file: days of speech have a tenth of it.
LARGEST = 256 << 20


def write(timeline: Timeline, path: Path) -> None:
    """Write the utterances with their answers; times in milliseconds."""
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": f"demeanor {timeline.header.demeanor}".strip(), "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0", "VERSION": "3.0", "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )  # fmt: skip
    head = ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if timeline.header.medium:
        medium = {"MEDIA_URL": timeline.header.medium, "MIME_TYPE": "unknown"}
        ElementTree.SubElement(head, "MEDIA_DESCRIPTOR", medium)
    order = ElementTree.SubElement(document, "TIME_ORDER")
    counted = {"slot": 0, "annotation": 0}
    for name, spans in lanes(timeline.utterances):
        speaker = spans[0].speaker or NOBODY
        common = {"PARTICIPANT": speaker, "DEFAULT_LOCALE": "en"}
        words = ElementTree.SubElement(document, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": WORDS, **common})
        identities = []
        for span in spans:
            slots = []
            for time in (span.start, span.end):
                counted["slot"] += 1
                slots.append(f"ts{counted['slot']}")
                ElementTree.SubElement(
                    order, "TIME_SLOT", {"TIME_SLOT_ID": slots[-1], "TIME_VALUE": str(milliseconds(time))}
                )
            counted["annotation"] += 1
            identities.append(f"a{counted['annotation']}")
            holder = ElementTree.SubElement(words, "ANNOTATION")
            aligned = {
                "ANNOTATION_ID": identities[-1], "TIME_SLOT_REF1": slots[0], "TIME_SLOT_REF2": slots[1],
            }  # fmt: skip
            annotation = ElementTree.SubElement(holder, "ALIGNABLE_ANNOTATION", aligned)
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = _printable(span.text or "")
        for task in timeline.tasks:
            kind = task.name if task.kind == "classification" else SCORES
            about = {"TIER_ID": f"{name}{JOINT}{task.name}", "PARENT_REF": name, "LINGUISTIC_TYPE_REF": kind}
            tier = ElementTree.SubElement(document, "TIER", {**about, **common})
            for span, parent in zip(spans, identities, strict=True):
                told = answer_text(span.answers[task.name], task)
                if not told:
                    continue
                counted["annotation"] += 1
                holder = ElementTree.SubElement(tier, "ANNOTATION")
                named = {"ANNOTATION_ID": f"a{counted['annotation']}", "ANNOTATION_REF": parent}
                annotation = ElementTree.SubElement(holder, "REF_ANNOTATION", named)
                ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = _printable(told)
    _types(document, timeline)
    ElementTree.indent(document, "    ")
    ElementTree.ElementTree(document).write(path, encoding="UTF-8", xml_declaration=True)


def _types(document: ElementTree.Element, timeline: Timeline) -> None:
    """Kinds of tiers, and of every classification its classes: ELAN offers them to whoever corrects the answers."""
    flags = {"GRAPHIC_REFERENCES": "false"}
    words = {"LINGUISTIC_TYPE_ID": WORDS, "TIME_ALIGNABLE": "true", **flags}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", words)
    below = {"TIME_ALIGNABLE": "false", "CONSTRAINTS": "Symbolic_Association", **flags}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": SCORES, **below})
    classified = [task for task in timeline.tasks if task.kind == "classification"]
    for task in classified:
        named = {"LINGUISTIC_TYPE_ID": task.name, "CONTROLLED_VOCABULARY_REF": task.name, **below}
        ElementTree.SubElement(document, "LINGUISTIC_TYPE", named)
    ElementTree.SubElement(document, "LOCALE", {"LANGUAGE_CODE": "en"})
    ElementTree.SubElement(
        document, "CONSTRAINT",
        {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": "Symbolic_Association"},
    )  # fmt: skip
    if classified:
        language = {"LANG_DEF": "http://cdb.iso.org/lg/CDB-00138502-001", "LANG_ID": "eng", "LANG_LABEL": "English"}
        document.insert(len(document), ElementTree.Element("LANGUAGE", language))
    for task in classified:
        vocabulary = ElementTree.SubElement(document, "CONTROLLED_VOCABULARY", {"CV_ID": task.name})
        ElementTree.SubElement(vocabulary, "DESCRIPTION", {"LANG_REF": "eng"}).text = task.name
        for number, label in enumerate(task.classes):
            entry = ElementTree.SubElement(vocabulary, "CV_ENTRY_ML", {"CVE_ID": f"{task.name}_{number}"})
            value = ElementTree.SubElement(entry, "CVE_VALUE", {"DESCRIPTION": "", "LANG_REF": "eng"})
            value.text = label


def _printable(text: str) -> str:
    """Without the control characters that XML does not have."""
    return "".join(mark for mark in text if mark in "\t\n" or (mark >= " " and not "\ud800" <= mark <= "\udfff"))


def spans(path: Path) -> list[GivenSpan]:
    """Annotations with times of their own, of every tier; the participant, else the tier, is the speaker. InputError
    for a file that is none of ELAN's."""
    where = str(path)
    if path.stat().st_size > LARGEST:
        raise InputError(where, [f"has more than {LARGEST} bytes"])
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InputError(where, ["declares a document type, which no annotation file of ELAN does"])
    try:
        document = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(where, [f"is no annotation file of ELAN ({type(error).__name__})"]) from None
    if document.tag != "ANNOTATION_DOCUMENT":
        raise InputError(where, ["is XML, but no annotation file of ELAN"])
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in document.iter("TIME_SLOT")}
    given = []
    for tier in document.iter("TIER"):
        name = tier.get("TIER_ID", "")
        if JOINT in name:
            continue
        speaker = tier.get("PARTICIPANT") or name
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            identity = annotation.get("ANNOTATION_ID", "")
            times = [_seconds(slots.get(annotation.get(f"TIME_SLOT_REF{end}"))) for end in (1, 2)]
            text = annotation.findtext("ANNOTATION_VALUE") or ""
            place = f"annotation {identity}"
            given.append(GivenSpan(times[0], times[1], "" if speaker == NOBODY else speaker, text, place))
    return checked(given, where)


def _seconds(value: str | None) -> float:
    try:
        return int(value or "") / 1000
    except ValueError:
        return float("nan")
