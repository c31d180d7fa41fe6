"""From posterior samples to voxel maps, region scores and gradient embeddings: tensors in, numbers out.

Works on the outputs of any torch network. Probabilities are ``probs_T_B_C_xyz``: T samples, B windows, C classes with
background in channel 0 (``exclusive=True``) or sigmoid heads (``exclusive=False``), any number of spatial axes. Public:

* voxel maps: `entropy`, `least_confidence`, `margin`, `mean_std`, `bald`, `class_variance`, `class_entropy`,
  `foreground_probability`
* region scores: `region_scores` with `evidence_of` and the reductions `Mean`, `Localized`, `Target`, `Boundary`,
  `ClassWeighted`, `ClassMeans`; `group_weights` for fair scores
* samples: `insert_dropout`, `DropoutSampler`, `EnsembleSampler`, `AugmentationSampler`, `DeterministicSampler`
* per-sample gradients: `convolutions`, `weight_gradients`, `gradient_entries`, `log_likelihood` (USIM), `self_loss`
  (BADGE)
* types of results: `Evidence`, `Samples`, `GroupWeights`

Two windows of 4 x 4 pixels and two samples, which agree in the first window and disagree in the second:

>>> import torch
>>> from nnunet_al.scoring import bald, evidence_of, region_scores
>>> foreground_T_B_xyz = torch.tensor([[0.9, 0.9], [0.9, 0.1]]).reshape(2, 2, 1, 1).expand(2, 2, 4, 4)
>>> probs_T_B_C_xyz = torch.stack([1 - foreground_T_B_xyz, foreground_T_B_xyz], dim=2)
>>> scores_B = region_scores(bald(probs_T_B_C_xyz), evidence_of(probs_T_B_C_xyz))
>>> scores_B.round(3).tolist()
[0.0, 0.368]
"""

from nnunet_al.lazy import publish

publish(__name__)
