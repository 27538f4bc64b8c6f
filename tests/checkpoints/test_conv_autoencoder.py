"""Released checkpoints become bundles: equal outputs, honest provenance, dead encoders refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.checkpoints.conv_autoencoder import from_name, import_conv_autoencoder
from demeanor.commands.checkpoints import register_checkpoint
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.data.files import sha256_of_file
from demeanor.representations.base import Layout, layout_of
from demeanor.representations.conv_autoencoder import ConvAutoencoder, ConvAutoencoderSettings
from demeanor.representations.embedding import load_representation
from demeanor.serving.locating import load_bundle
from demeanor.training.pretraining.collapse import CollapsedEncoderError
from tests.parity.golden import golden_file
from tests.project import PROJECT
from tests.store import empty_store

RELEASED = PROJECT.parent / "shared" / "data" / "convae_released"
FILES = sorted(RELEASED.glob("**/*.pt"))
here = pytest.mark.skipif(not FILES, reason="needs the released checkpoints in ../shared/data/convae_released")


@here
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: "absent" if path is None else path.stem)
def test_outputs_equal_the_recorded_ones(path):
    recorded = np.load(golden_file("conv_autoencoder", "released_outputs.npz"))
    width = int(recorded[f"{path.stem}/width"])
    bundle = import_conv_autoencoder(path, force=True)
    assert layout_of(bundle).width == width
    matrix = torch.from_numpy(recorded[f"x/{width}"])[:, 0]
    model = load_representation(bundle).eval()
    with torch.inference_mode():
        latent = model.embed(matrix, torch.ones(matrix.shape[:2], dtype=torch.bool))
    np.testing.assert_allclose(latent.numpy(), recorded[f"{path.stem}/latent"], atol=2e-6)
    assert not any(value.provenance.recomputable for value in bundle.card.inputs.values())
    assert "never saved" in bundle.card.notes


@here
def test_a_collapsed_one_is_refused_unless_forced(tmp_path):
    dead = [path for path in FILES if path.stem in ("ConvAE_text", "ConvAE_visaul_text")]
    if not dead:
        pytest.skip("no collapsed checkpoint among the released ones here")
    with pytest.raises(CollapsedEncoderError, match="--force"):
        import_conv_autoencoder(dead[0])
    assert "COLLAPSED" in import_conv_autoencoder(dead[0], force=True).card.notes


@here
def test_the_command_writes_a_bundle(tmp_path):
    alive = next(path for path in FILES if path.stem not in ("ConvAE_text", "ConvAE_visaul_text"))
    done = CliRunner().invoke(
        main, ["import-checkpoint", "conv_autoencoder", str(alive), "--output", str(tmp_path / "bundle")]
    )
    assert done.exit_code == 0, done.output
    assert "embeds" in done.output
    assert Bundle.load(tmp_path / "bundle").card.system == "conv_autoencoder"


def test_an_imported_one_is_registered_as_a_model_of_its_own(tmp_path, monkeypatch):
    import mlflow

    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    torch.manual_seed(0)
    settings = ConvAutoencoderSettings(channels=4, representation_channels=2)
    file = tmp_path / "ConvAE_audio small.pt"
    torch.save(ConvAutoencoder(settings, Layout(blocks={"audio": (0, 74)})).state_dict(), file)
    given = ["import-checkpoint", "conv_autoencoder", str(file), "--output", str(tmp_path / "bundle"),
             "--modalities", "audio", "--register"]  # fmt: skip
    try:
        done = CliRunner().invoke(main, given)
        assert done.exit_code == 0, done.output
        name = "imported-conv_autoencoder-ConvAE_audio-small"
        uri = f"models:/{name}@champion"
        assert f"registered as {uri}" in done.output
        version = mlflow.MlflowClient().get_model_version_by_alias(name, "champion")
        assert version.tags["system"] == "conv_autoencoder"
        assert version.tags["source_sha256"] == sha256_of_file(file)
        assert "normaliser" in version.tags["unknown"]
        stored = load_bundle(uri)
        assert stored.card.kind == "embeds"
        np.testing.assert_array_equal(
            stored.tensors["model.encoder.conv4.weight"], torch.load(file)["encoder.conv4.weight"].numpy()
        )
        with pytest.raises(ProvenanceError, match="cannot be made from a recording"):
            mlflow.pyfunc.load_model(uri).predict([{"utterance_id": "a", "text": "hello"}])
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def test_what_is_no_model_is_not_registered(tmp_path):
    with pytest.raises(InputError, match="nothing to register"):
        register_checkpoint(object(), tmp_path / "speech")


def test_names_tell_modalities_and_corpora():
    assert from_name("ConvAE_visaul_text") == (("text", "vision"), ("cmumosei", "iemocap"))
    assert from_name("ConvAE_cmumosi") == (("audio", "text", "vision"), ("cmumosi",))
    assert from_name("other") == ((), ())


def test_other_files_are_refused_by_name(tmp_path):
    text = tmp_path / "x.pt"
    text.write_text("no archive", encoding="utf-8")
    with pytest.raises(InputError, match="no torch checkpoint"):
        import_conv_autoencoder(text)
    other = tmp_path / "other.pt"
    torch.save({"linear.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(InputError, match="holds no convolutional autoencoder"):
        import_conv_autoencoder(other)
    with pytest.raises(InputError, match="no such file"):
        import_conv_autoencoder(tmp_path / "absent.pt")
