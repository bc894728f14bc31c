"""The files that the examples of the page about data read: digits in the forms that people have them."""

import numpy as np
import pandas as pd
from PIL import Image

from spark_cnn_ensemble.datasets import load_digits
from support.images import encoded


def write_example_files(folder):
    """Write thirty digits of three classes into `folder`, a `pathlib.Path`.

    photos: PNG and JPEG, a sub-folder per class; many-sizes: PNG, two classes; hugging-face: Parquet; pixels.csv;
    digits.svm.
    """
    (x, y), _ = load_digits()
    chosen = np.flatnonzero(y < 3)[:30]
    pictures, labels = (x[chosen].reshape(-1, 8, 8) * 15).astype(np.uint8), y[chosen].astype(int)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        of_class = folder / "photos" / ("zero", "one", "two")[label]
        of_class.mkdir(parents=True, exist_ok=True)
        ending = ("png", "jpeg")[index % 2]
        (of_class / f"{index}.{ending}").write_bytes(encoded(picture, ending.upper()))
    for label in ("0", "1"):
        (folder / "many-sizes" / label).mkdir(parents=True)
    for side in range(8, 24):
        resized = Image.fromarray(pictures[side]).resize((side, 2 * side))
        (folder / "many-sizes" / str(side % 2) / f"{side}.png").write_bytes(encoded(resized))
    (folder / "hugging-face").mkdir()
    structs = [{"bytes": encoded(picture), "path": f"{index}.png"} for index, picture in enumerate(pictures)]
    table = pd.DataFrame({"image": structs, "label": labels})
    table.to_parquet(folder / "hugging-face" / "train.parquet")
    numbers = pd.DataFrame(pictures.reshape(-1, 64), columns=[f"pixel{index}" for index in range(64)])
    numbers.insert(0, "label", labels)
    numbers.to_csv(folder / "pixels.csv", index=False)
    lines = [
        " ".join([str(label), *(f"{place + 1}:{value}" for place, value in enumerate(picture.ravel()) if value)])
        for picture, label in zip(pictures, labels, strict=True)
    ]
    (folder / "digits.svm").write_text("\n".join(lines) + "\n")
