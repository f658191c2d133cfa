"""Shared fixtures: no network and no local data, and files of known content."""

import gzip

import numpy as np
import pytest
from PIL import Image

from jaxlabs.data import sources


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and no local data sets."""

    def unreachable(url, sha256, path):
        raise sources.DownloadError("the host could not be reached")

    monkeypatch.setattr(sources, "download", unreachable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.fixture
def write_idx():
    """Writes an array in the IDX format of MNIST."""

    def write(path, array):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0))

    return write


@pytest.fixture
def write_tfds():
    """Writes records in the format of tensorflow-datasets: `write(version_folder, splits)`."""

    def write(folder, splits):
        from array_record.python.array_record_module import ArrayRecordWriter
        from tensorflow_datasets.proto import tf_example_pb2

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
        for split, records in splits.items():
            name = f"{folder.parent.name}-{split}.array_record-00000-of-00001"
            writer = ArrayRecordWriter(str(folder / name), "group_size:1")
            for record in records:
                example = tf_example_pb2.Example()
                for key, value in record.items():
                    feature = example.features.feature[key]
                    kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
                    kind.value.append(value)
                writer.write(example.SerializeToString())
            writer.close()

    return write


@pytest.fixture
def write_image():
    """Writes an image of noise and returns its values `[height, width, channels]`."""

    def write(path, height, width, channels=1, seed=0):
        values = np.random.default_rng(seed).integers(256, size=(height, width, channels))
        values = values.astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values[..., 0] if channels == 1 else values).save(path)
        return values

    return write
