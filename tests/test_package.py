"""The package as it is installed: what importing it costs, and that a wheel is whole."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import napari_medattn

ROOT = Path(__file__).parents[1]


def run(code: str, *, path: Path | None = None) -> str:
    """Run Python in a fresh process, in a folder that holds nothing of the repository."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    place = path or ROOT
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("heavy", ["torch", "napari", "qtpy", "monai"])
def test_importing_the_package_imports_nothing_heavy(heavy):
    assert run(f"import sys, napari_medattn; print('{heavy}' in sys.modules)") == "False"


@pytest.mark.parametrize("module", ["napari_medattn.widgets.dock", "napari_medattn.contributions"])
def test_the_window_starts_without_torch(module):
    assert run(f"import sys, {module}; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("door", [name for name in napari_medattn.__all__ if name != "__version__"])
def test_every_door_opens(door):
    assert getattr(napari_medattn, door).__name__ == door


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        napari_medattn.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel made from a source distribution, as a release is."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_manifest_and_weights(built):
    names = zipfile.ZipFile(built[0]).namelist()
    for needed in ("napari.yaml", "weights/hippocampus.safetensors", "weights/phantom.safetensors"):
        assert f"napari_medattn/{needed}" in names
    assert not [name for name in names if name.startswith(("tests/", "sample_data/"))]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel installed into a folder of its own; dependencies come from the environment."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    done = subprocess.run([*command, str(built[0])], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_the_installed_wheel_passes_validation_and_opens_its_sample(installed):
    code = f"""
import sys; sys.path.insert(0, {str(installed)!r})
import napari_medattn; assert napari_medattn.__file__.startswith({str(installed)!r})
from npe2 import PluginManager, PluginManifest
PluginManifest.from_distribution("napari-medattn").validate_imports()
plugins = PluginManager.instance(); plugins.discover()
sample = next(s for name, samples in plugins.iter_sample_data() if name == "napari-medattn" for s in samples)
data, kwargs, kind = sample.open()[0]
print(kind, data.shape, kwargs["name"], len(napari_medattn.list_checkpoints()))
"""
    shipped = list((ROOT / "napari_medattn" / "weights").glob("*.safetensors"))
    assert run(code, path=installed) == f"image (48, 80, 80) phantom volume {len(shipped)}"
