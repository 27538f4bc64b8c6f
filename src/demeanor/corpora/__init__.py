"""One file per corpus format: raw layout in, utterances and streams out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demeanor.corpora.base import Reader

#: Reader's name -> where it is. A new corpus format is one file and one line here.
READERS = {
    "label_csv": "demeanor.corpora.label_csv:LabelCsvReader",
    "cmu_sdk": "demeanor.corpora.cmu_sdk:CmuSdkReader",
    "folder": "demeanor.corpora.folder:FolderReader",
    "iemocap": "demeanor.corpora.iemocap:IemocapReader",
    "meld": "demeanor.corpora.meld:MeldReader",
    "multilogue_pickle": "demeanor.corpora.multilogue_pickle:MultiloguePickleReader",
    "shards": "demeanor.corpora.shards:ShardReader",
    "ravdess": "demeanor.corpora.ravdess:RavdessReader",
    "mmsa_pickle": "demeanor.corpora.mmsa_pickle:MmsaPickleReader",
    "mosi_utterances": "demeanor.corpora.mosi_utterances:MosiUtterancesReader",
    "union": "demeanor.corpora.union:UnionReader",
}


def find_reader(name: str) -> type[Reader]:
    """The reader called `name`, imported only now; InputError with the nearest name if there is none."""
    from demeanor.data.errors import InputError, nearest

    if name not in READERS:
        raise InputError("readers", [f"there is no reader '{name}'.{nearest(name, READERS)}"])
    module, _, attribute = READERS[name].partition(":")
    return getattr(import_module(module), attribute)
