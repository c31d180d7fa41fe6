from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from nnunet_al.errors import StorageError
from nnunet_al.synthetic.image_file import write_image

LABEL = np.zeros((4, 5, 6), dtype=np.uint8)
LABEL[1, 2, 3] = 1


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "labelsTr" / "a.nii.gz"
    write_image(path, LABEL, (1.0, 2.0, 3.0), (-4.0, 5.0, 6.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    image = SimpleITK.ReadImage(path)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), LABEL)
    assert image.GetSpacing() == (1, 2, 3)
    assert image.GetOrigin() == (-4, 5, 6)
    assert np.allclose(image.GetDirection(), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    write_image(tmp_path / "b.nii.gz", LABEL[:, ::-1], (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "b.nii.gz")), LABEL[:, ::-1])


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9, 0.99])
def test_a_disk_that_is_full_without_a_word_is_noticed(tmp_path, monkeypatch, kept):
    """The end of this label is nothing but zeros, which readers fill in."""
    write = SimpleITK.WriteImage

    def cut(image, path, **options):
        write(image, path, **options)
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])

    monkeypatch.setattr(SimpleITK, "WriteImage", cut)
    with pytest.raises(StorageError, match=r"a\.nii\.gz could not be written whole: free some disk space"):
        write_image(tmp_path / "a.nii.gz", LABEL, (1.0,) * 3, (0.0,) * 3)


def test_whoever_writes_into_a_dataset_that_was_given_up_does_not_make_it_anew(tmp_path):
    with pytest.raises(StorageError, match=r"a\.nii\.gz"):
        write_image(tmp_path / "gone" / "imagesTr" / "a.nii.gz", LABEL, (1.0,) * 3, (0.0,) * 3)
    assert not list(tmp_path.iterdir())
