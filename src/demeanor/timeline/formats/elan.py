"""ELAN's EAF 3.0: of every speaker a tier of utterances, below it one of single words where their times are known, and
one per task; classes are a controlled vocabulary."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from demeanor.data.errors import InputError
from demeanor.timeline.formats.textgrid import JOINT, NOBODY, WORD_TIMES, lanes, words_within
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
    made = _Annotations(order)
    for name, spans in lanes(timeline.utterances):
        speaker = spans[0].speaker or NOBODY
        common = {"PARTICIPANT": speaker, "DEFAULT_LOCALE": "en"}
        words = ElementTree.SubElement(document, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": WORDS, **common})
        identities = [made.aligned(words, span.start, span.end, span.text or "") for span in spans]
        if single := words_within(spans):
            about = {"TIER_ID": f"{name}{JOINT}{WORD_TIMES}", "PARENT_REF": name, "LINGUISTIC_TYPE_REF": WORD_TIMES}
            tier = ElementTree.SubElement(document, "TIER", {**about, **common})
            for word in single:
                made.aligned(tier, word.start, word.end, word.word)
        for task in timeline.tasks:
            kind = task.name if task.kind == "classification" else SCORES
            about = {"TIER_ID": f"{name}{JOINT}{task.name}", "PARENT_REF": name, "LINGUISTIC_TYPE_REF": kind}
            tier = ElementTree.SubElement(document, "TIER", {**about, **common})
            for span, parent in zip(spans, identities, strict=True):
                told = answer_text(span.answers[task.name], task)
                if not told:
                    continue
                made.below(tier, parent, told)
    _types(document, timeline)
    ElementTree.indent(document, "    ")
    ElementTree.ElementTree(document).write(path, encoding="UTF-8", xml_declaration=True)


class _Annotations:
    """Annotations and time slots, numbered through the whole document."""

    def __init__(self, order: ElementTree.Element):
        self.order = order
        self.slots = self.annotations = 0

    def aligned(self, tier: ElementTree.Element, start: float, end: float, text: str) -> str:
        """The name of a new annotation with times of its own, in seconds."""
        references = {f"TIME_SLOT_REF{place}": self._slot(time) for place, time in ((1, start), (2, end))}
        return self._add(tier, "ALIGNABLE_ANNOTATION", references, text)

    def below(self, tier: ElementTree.Element, parent: str, text: str) -> str:
        """The name of a new annotation that belongs to another."""
        return self._add(tier, "REF_ANNOTATION", {"ANNOTATION_REF": parent}, text)

    def _slot(self, time: float) -> str:
        self.slots += 1
        named = {"TIME_SLOT_ID": f"ts{self.slots}", "TIME_VALUE": str(milliseconds(time))}
        ElementTree.SubElement(self.order, "TIME_SLOT", named)
        return named["TIME_SLOT_ID"]

    def _add(self, tier: ElementTree.Element, kind: str, references: dict[str, str], text: str) -> str:
        self.annotations += 1
        named = {"ANNOTATION_ID": f"a{self.annotations}", **references}
        holder = ElementTree.SubElement(tier, "ANNOTATION")
        annotation = ElementTree.SubElement(holder, kind, named)
        ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = _printable(text)
        return named["ANNOTATION_ID"]


def _types(document: ElementTree.Element, timeline: Timeline) -> None:
    """Kinds of tiers, and of every classification its classes: ELAN offers them to whoever corrects the answers."""
    flags = {"GRAPHIC_REFERENCES": "false"}
    words = {"LINGUISTIC_TYPE_ID": WORDS, "TIME_ALIGNABLE": "true", **flags}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", words)
    inside = {"LINGUISTIC_TYPE_ID": WORD_TIMES, "TIME_ALIGNABLE": "true", "CONSTRAINTS": "Included_In", **flags}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", inside)
    below = {"TIME_ALIGNABLE": "false", "CONSTRAINTS": "Symbolic_Association", **flags}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": SCORES, **below})
    classified = [task for task in timeline.tasks if task.kind == "classification"]
    for task in classified:
        named = {"LINGUISTIC_TYPE_ID": task.name, "CONTROLLED_VOCABULARY_REF": task.name, **below}
        ElementTree.SubElement(document, "LINGUISTIC_TYPE", named)
    ElementTree.SubElement(document, "LOCALE", {"LANGUAGE_CODE": "en"})
    for stereotype, description in (
        ("Symbolic_Association", "1-1 association with a parent annotation"),
        ("Included_In", "Time alignable annotations within the parent annotation's time interval, gaps are allowed"),
    ):
        ElementTree.SubElement(document, "CONSTRAINT", {"DESCRIPTION": description, "STEREOTYPE": stereotype})
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
