import numpy as np

from nnunet_al.selection.farthest_first import farthest_first


def test_the_traversal_starts_at_the_largest_score_and_goes_to_the_farthest():
    embeddings_N_d = np.array([[0.0], [1.0], [10.0], [4.0]])
    selection = farthest_first(np.array([0.0, 1.0, 0.5, 0.2]), embeddings_N_d, ["a", "b", "c", "d"], 3)
    assert selection.indices_B.tolist() == [1, 2, 3]
    assert selection.gains_B.tolist() == [0, 9, 3]
