"""An installed package, away from its clone, finds MNIST where the wheel puts it."""

import shutil
from pathlib import Path

import pytest
from support.processes import output_of, start_python

import spark_cnn_ensemble

PACKAGE = Path(spark_cnn_ensemble.__file__).parent
MNIST = PACKAGE.parent / "data" / "mnist"

LOAD = """
import sys

sys.path.insert(0, sys.argv[1])
from spark_cnn_ensemble import datasets

print(datasets.__file__)
try:
    (x_train, y_train), (x_test, y_test) = datasets.load_mnist()
    print(len(x_train), len(y_train), len(x_test), len(y_test))
except FileNotFoundError as error:
    print(error)
"""


@pytest.fixture
def site_packages(tmp_path):
    """A folder like site-packages of an environment, with the package and a distribution that lists no files."""
    site = tmp_path / "lib" / "python3" / "site-packages"
    shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"spark_cnn_ensemble-{spark_cnn_ensemble.__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: spark_cnn_ensemble\nVersion: {spark_cnn_ensemble.__version__}\n"
    )
    (info / "RECORD").write_text("")
    return site


def install_mnist(site, folder):
    """Put MNIST's files into a folder of the environment, and list them in the distribution."""
    shutil.copytree(MNIST, site.parent.parent.parent / folder)
    (record,) = site.glob("*.dist-info/RECORD")
    record.write_text("".join(f"../../../{folder}/{file.name},,\n" for file in sorted(MNIST.iterdir())))


def load_from(site):
    """The file of the imported module, and what it prints of MNIST."""
    module, printed = output_of(start_python(LOAD, site))
    assert module == str(site / "spark_cnn_ensemble" / "datasets.py")
    return printed


@pytest.mark.slow
def test_mnist_is_loaded_from_the_files_of_the_wheel(site_packages):
    install_mnist(site_packages, "share/spark_cnn_ensemble/mnist")
    assert load_from(site_packages) == "60000 60000 10000 10000"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [None, "share/another_package/mnist"], ids=["no files", "another package's files"])
def test_without_the_files_the_folder_is_asked_for(site_packages, folder):
    if folder:
        install_mnist(site_packages, folder)
    assert load_from(site_packages) == (
        f"Nothing is at {site_packages / 'data' / 'mnist'}; pass a folder of four IDX files, or an .npz file."
    )
