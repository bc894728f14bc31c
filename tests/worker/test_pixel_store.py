"""Pixels past the limit go to a nameless file, come back as they were, and leave nothing behind."""

import os
import signal
import subprocess
import weakref
from pathlib import Path

import numpy as np
import pytest
from support.processes import files_held, output_of, start_python
from support.refusals import as_sentence, refused

from spark_cnn_ensemble.worker.bag import Examples
from spark_cnn_ensemble.worker.pixel_store import PixelStore
from spark_cnn_ensemble.worker.refusal import Refusal

REMEDY = (
    "; free the disk, point spark.local.dir to a larger one, raise maxMemoryInMB, or set a smaller subsamplingRate or "
    "more members."
)

# Which of six blocks hold floats.
FLOATS = {"bytes": (), "floats": range(6), "floats from the fourth block on": (3, 5), "floats in the first block": (0,)}


def blocks_of(kind):
    """Six blocks of 20 images as they arrive."""
    rng = np.random.default_rng(3)
    blocks = [rng.integers(0, 256, (20, 8, 8, 1)).astype(np.float32) for _ in range(6)]
    return [block + 0.5 if index in FLOATS[kind] else block for index, block in enumerate(blocks)]


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("limit", [0, 1, 20 * 64, 3 * 20 * 64, 4 * 20 * 64, 10**9])
def test_images_come_back_in_any_order(kind, limit, tmp_path):
    blocks = blocks_of(kind)
    store = PixelStore((8, 8, 1), limit, [str(tmp_path)])
    for block in blocks:
        store.append(block)
    assert store.spilled == (limit < 10**9)
    everything = np.concatenate(blocks)
    order = np.random.default_rng(0).permutation(len(everything))[:50]
    images, places = store.arrange(order)
    arranged = images if places is None else images[places]
    assert arranged.dtype == (np.uint8 if kind == "bytes" else np.float32)
    assert np.array_equal(arranged, everything[order])


def test_blocks_in_memory_are_released_while_they_are_arranged():
    store = PixelStore((8, 8, 1))
    blocks = [np.zeros((20, 8, 8, 1), np.uint8) for _ in range(3)]
    references = [weakref.ref(block) for block in blocks]
    for block in blocks:
        store.append(block)
    del block, blocks
    assert all(reference() is not None for reference in references)
    images, _ = store.arrange(np.arange(60))
    assert len(images) == 60
    assert all(reference() is None for reference in references)


def test_the_file_has_no_name_and_is_removed_with_the_images(tmp_path):
    store = PixelStore((8, 8, 1), 0, [str(tmp_path)])
    for block in blocks_of("floats from the fourth block on"):
        store.append(block)
    images, _ = store.arrange(np.arange(120))
    assert not list(tmp_path.iterdir())
    assert files_held(os.getpid(), tmp_path), "otherwise the last line would hold for any store"
    del images, store
    assert not files_held(os.getpid(), tmp_path)


def mapped_megabytes():
    """Of files, in this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile:", "RssShmem:"))) / 1024


def test_pages_of_a_bag_on_disk_do_not_stay_in_memory(tmp_path):
    store = PixelStore((64, 64, 1), 0, [str(tmp_path)])
    for value in range(32):
        store.append(np.full((256, 64, 64, 1), value, np.uint8))  # 1 MB
    images, places = store.arrange(np.arange(8192))
    bag = Examples(images, np.zeros(8192, np.int32), None, np.ones(8192, np.int32), places)
    before = mapped_megabytes()
    for rows in np.random.default_rng(0).permutation(8192).reshape(8, -1):
        assert np.array_equal(bag.gather(rows)[:, 0, 0, 0], rows // 256)
        assert mapped_megabytes() - before < 8
    assert images[::16].sum() > 0
    assert mapped_megabytes() - before > 16, "otherwise the lines above would hold for any bag"


def test_folders_that_do_not_exist_are_skipped(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a file").write_text("")
    folders = [str(tmp_path / name) for name in ("missing", "a file", "folder")]
    store = PixelStore((8, 8, 1), 0, folders)
    for block in blocks_of("bytes"):
        store.append(block)
    images, places = store.arrange(np.arange(120))
    assert np.array_equal(images[places], np.concatenate(blocks_of("bytes")))
    assert files_held(os.getpid(), tmp_path / "folder")


@pytest.mark.parametrize("folders", [[], ["missing"], ["missing", "also missing"]], ids=len)
def test_without_a_folder_the_bag_is_refused_with_the_remedy(folders, tmp_path):
    store = PixelStore((8, 8, 1), 0, [str(tmp_path / name) for name in folders])
    text = refused(store.append, blocks_of("bytes")[0], kind=Refusal)
    reason = f"{tmp_path / folders[-1]}: No such file or directory" if folders else "Spark named no folder"
    assert text == f"A bag exceeds maxMemoryInMB and does not fit on the local disk of its task ({reason}){REMEDY}"


def test_a_killed_process_leaves_nothing(tmp_path):
    process = start_python(
        """
        import sys, time
        import numpy as np
        from spark_cnn_ensemble.worker.pixel_store import PixelStore
        store = PixelStore((64, 64, 1), 1 << 20, [sys.argv[1]])
        for _ in range(8):
            store.append(np.zeros((256, 64, 64, 1), np.uint8))
        images, _ = store.arrange(np.arange(2048))
        print(store.spilled, images.nbytes, flush=True)
        time.sleep(600)
        """,
        tmp_path,
    )
    assert process.stdout.readline() == f"True {8 << 20}\n"
    assert files_held(process.pid, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


FILL = """
import resource, sys
import numpy as np
from spark_cnn_ensemble.worker.pixel_store import PixelStore
from spark_cnn_ensemble.worker.refusal import Refusal
limit, *folders = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
store = PixelStore((64, 64, 1), 1 << 19, folders)
blocks = [np.random.default_rng(seed).integers(0, 256, (100, 64, 64, 1), np.uint8) for seed in range(6)]
blocks[4] = blocks[4] + np.float32(0.5)
try:
    for block in blocks:
        store.append(block)
    images, places = store.arrange(np.arange(600))
    print(np.array_equal(images[places], np.concatenate(blocks)))
except Refusal as refusal:
    print(refusal)
"""


def test_if_all_folders_are_full_the_bag_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    # With a limit of 1 MB per file both folders are full for the process.
    (text,) = output_of(start_python(FILL, 1 << 20, tmp_path / "one", tmp_path / "two"))
    assert as_sentence(text) == (
        f"A bag exceeds maxMemoryInMB and does not fit on the local disk of its task ({tmp_path / 'two'}: File too "
        f"large){REMEDY}"
    )
    assert not list((tmp_path / "one").iterdir()) + list((tmp_path / "two").iterdir())


def own_mounts():
    """The command that lets a process mount filesystems that only it sees; empty where that is not allowed."""
    command = ["unshare", "--map-root-user", "--mount"]
    try:
        allowed = not subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        allowed = False
    return command if allowed else []


def test_a_full_folder_is_skipped(tmp_path):
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    before = own_mounts()
    if before:  # a disk of 1 MB
        mount = f'mount -t tmpfs -o size=1m none {full} && exec "$@"'
        lines = output_of(start_python(FILL, 0, full, empty, before=[*before, "sh", "-c", mount, "sh"]))
    else:  # a folder that no file can be in
        lines = output_of(start_python(FILL, 0, "/proc/self", empty))
    assert lines == ["True"]
    assert not list(empty.iterdir())
