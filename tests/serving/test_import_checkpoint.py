"""Released checkpoints become bundles: equal outputs, honest provenance, dead encoders refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.data.errors import InputError
from demeanor.models.representation import RepresentationBundle
from demeanor.serving.import_checkpoint import from_name, import_conv_autoencoder
from demeanor.training.collapse import CollapsedEncoderError
from demeanor.training.representation import load_representation
from tests.parity.golden import golden_file
from tests.project import PROJECT

RELEASED = PROJECT.parent / "shared" / "data" / "convae_released"
FILES = sorted(RELEASED.glob("**/*.pt"))
here = pytest.mark.skipif(not FILES, reason="needs the released checkpoints in ../shared/data/convae_released")


@here
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: "absent" if path is None else path.stem)
def test_outputs_equal_the_recorded_ones(path):
    recorded = np.load(golden_file("conv_autoencoder", "released_outputs.npz"))
    width = int(recorded[f"{path.stem}/width"])
    bundle = import_conv_autoencoder(path, force=True)
    assert bundle.layout.width == width
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
    assert RepresentationBundle.load(tmp_path / "bundle").card.system == "conv_autoencoder"


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
