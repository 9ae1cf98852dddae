"""The networks compute what the authors' own code computes, and take the authors' weights."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_medattn import load_authors_weights
from napari_medattn.errors import CheckpointError, ModelError
from napari_medattn.models import create_model
from tests import parity_adapter

GATES = ["gridatt2d_concat", "gridatt2d_residual", "gridatt3d_concat", "gridatt3d_concat_legacy_align"]
NETWORKS = ["attunet3d_gridgating_64x64x6", "attunet3d_multi_48x32x32_n2", "attunet3d_single_32_debug"]
NETWORKS += ["attunet3d_single_32_legacy_align", "attunet3d_single_32_residual"]
NETWORKS += ["unet3d_ct_dsv_32"]
NETWORKS += ["medt_MedT_128", "medt_axialunet_64_n2", "medt_gated_128", "medt_logo_128"]
NETWORKS += ["daeformer_64_heads2", "daeformer_96x128_n2", "msdual_128_n2"]
# The same networks at larger sizes: half of the time of all goldens, so they run at night.
LARGE = [
    pytest.param(name, marks=pytest.mark.nightly)
    for name in ("attunet3d_single_48", "medt_MedT_256_generalised", "daeformer_224", "msdual_256")
]


@pytest.fixture
def golden(parity: Path, monkeypatch: pytest.MonkeyPatch):
    """Compares one golden with our network and returns the rows that differ."""
    monkeypatch.syspath_prepend(str(parity))
    import check_parity

    def differing(name: str, dtype: torch.dtype) -> list[str]:
        path = parity / "golden" / f"{name}.json"
        if not path.exists():
            pytest.skip(f"the golden {name} is not here")
        report = check_parity.check(
            path,
            parity_adapter.build,
            parity_adapter.run,
            dtype,
            load=parity_adapter.load,
            named=parity_adapter.named,
        )
        assert len(report) >= 5
        return [f"{row.kind} {row.name}: {row.max_abs} > {row.limit} {row.note}" for row in report if not row.ok]

    return differing


class TestGoldens:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
    @pytest.mark.parametrize("name", [*GATES, *NETWORKS, *LARGE])
    def test_outputs_maps_gradients_and_training_agree(self, golden, name, dtype):
        assert golden(name, dtype) == []


@pytest.fixture
def authors_state(parity: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights under the authors' names, filled for one golden."""
    monkeypatch.syspath_prepend(str(parity))
    import check_parity

    def state(name: str) -> dict[str, torch.Tensor]:
        keys = json.loads((parity / "golden" / f"{name}.keys.json").read_text())
        return check_parity.authors_state(keys, 7, [], torch.float32)

    return state


def single_gate_net(**changes: object) -> torch.nn.Module:
    return create_model("attention_unet", **{"num_classes": 4, "spatial_dims": 3, **changes})


class RunsCode:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


class TestAuthorsWeights:
    def test_every_weight_arrives(self, authors_state):
        state = authors_state("attunet3d_single_48")
        model = single_gate_net()
        load_authors_weights(model, state)
        sums = sorted(float(t.double().sum()) for t in state.values())
        ours = [t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")]
        assert sorted(float(t.double().sum()) for t in ours) == pytest.approx(sums)

    def test_the_prefix_of_data_parallel_is_taken_off(self, authors_state):
        state = authors_state("attunet3d_single_48")
        plain, prefixed = single_gate_net(), single_gate_net()
        load_authors_weights(plain, state)
        load_authors_weights(prefixed, {f"module.{key}": value for key, value in state.items()})
        torch.testing.assert_close(prefixed.state_dict(), plain.state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    def test_a_pth_file_loads(self, authors_state, tmp_path, wrapper):
        state = authors_state("attunet3d_single_48")
        torch.save({wrapper: state} if wrapper else state, tmp_path / "theirs.pth")
        model = single_gate_net()
        load_authors_weights(model, tmp_path / "theirs.pth")
        torch.testing.assert_close(model.head1.conv.bias.detach(), state["dsv1.bias"], rtol=0, atol=0)

    def test_a_safetensors_file_loads(self, authors_state, tmp_path):
        state = authors_state("attunet3d_single_48")
        save_file(state, tmp_path / "theirs.safetensors")
        model = single_gate_net()
        load_authors_weights(model, str(tmp_path / "theirs.safetensors"))
        torch.testing.assert_close(model.head1.conv.bias.detach(), state["dsv1.bias"], rtol=0, atol=0)

    def test_weights_of_another_network_are_refused_with_the_keys(self, authors_state):
        with pytest.raises(ModelError, match="missing: gating_signal"):
            load_authors_weights(single_gate_net(), authors_state("unet3d_ct_dsv_32"))

    def test_weights_with_more_gates_are_refused_with_the_keys(self, authors_state):
        with pytest.raises(ModelError, match=r"unknown: .*gate2"):
            load_authors_weights(single_gate_net(), authors_state("attunet3d_multi_48x32x32_n2"))

    def test_weights_for_other_classes_are_refused_with_both_shapes(self, authors_state):
        with pytest.raises(ModelError, match=r"\(4, .*\) for \(3, "):
            load_authors_weights(single_gate_net(num_classes=3), authors_state("attunet3d_single_48"))

    def test_refused_weights_change_nothing(self, authors_state):
        model = single_gate_net(num_classes=3, feature_scale=4)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(ModelError):
            load_authors_weights(model, authors_state("attunet3d_single_48"))
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)

    @torch.no_grad()
    def test_their_xyz_weights_work_on_our_zyx_arrays(self, authors_state):
        """Loaded with slices along Z, the network gives the turned result on the turned image."""
        state = authors_state("attunet3d_gridgating_64x64x6")
        theirs, ours = (
            create_model("grid_gating_unet", num_classes=4, spatial_dims=3, slice_axis=axis).eval() for axis in (2, 0)
        )
        load_authors_weights(theirs, state)
        load_authors_weights(ours, state)
        xyz = torch.randn(1, 1, 32, 16, 4)
        expected = theirs(xyz).permute(0, 1, 4, 2, 3)
        torch.testing.assert_close(ours(xyz.permute(0, 1, 4, 2, 3)), expected, rtol=1e-4, atol=1e-4)


class TestUntrustedFiles:
    @pytest.mark.parametrize(
        "write", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found, protocol=2))]
    )
    def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(self, tmp_path, write):
        write({"state_dict": RunsCode(tmp_path / "it ran")}, tmp_path / "evil.pth")
        with pytest.raises(CheckpointError, match=r"evil\.pth.*run code"):
            load_authors_weights(single_gate_net(feature_scale=32), tmp_path / "evil.pth")
        assert not (tmp_path / "it ran").exists()

    def test_a_whole_pickled_network_is_refused(self, tmp_path):
        torch.save(torch.nn.Linear(1, 1), tmp_path / "net.pth")
        with pytest.raises(CheckpointError, match="state dict"):
            load_authors_weights(single_gate_net(feature_scale=32), tmp_path / "net.pth")

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"not weights" * 20, b"PK\x03\x04 cut off"])
    def test_a_damaged_file_is_named(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_authors_weights(single_gate_net(feature_scale=32), tmp_path / name)

    @pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
    def test_a_missing_file_is_named(self, tmp_path, name):
        with pytest.raises(CheckpointError, match=name):
            load_authors_weights(single_gate_net(feature_scale=32), tmp_path / name)

    def test_a_file_without_tensors_is_refused(self, tmp_path):
        torch.save({"epoch": 3}, tmp_path / "log.pth")
        with pytest.raises(CheckpointError, match="holds no state dict"):
            load_authors_weights(single_gate_net(feature_scale=32), tmp_path / "log.pth")
