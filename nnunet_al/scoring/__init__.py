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

from typing import TYPE_CHECKING

from nnunet_al.lazy import publish

if TYPE_CHECKING:
    from nnunet_al.scoring.augmentation import AugmentationSampler as AugmentationSampler
    from nnunet_al.scoring.dropout import insert_dropout as insert_dropout
    from nnunet_al.scoring.gradients import (
        gradient_entries as gradient_entries,
        log_likelihood as log_likelihood,
        weight_gradients as weight_gradients,
    )
    from nnunet_al.scoring.group_weights import GroupWeights as GroupWeights, group_weights as group_weights
    from nnunet_al.scoring.layers import convolutions as convolutions
    from nnunet_al.scoring.maps import (
        bald as bald,
        class_entropy as class_entropy,
        class_variance as class_variance,
        entropy as entropy,
        foreground_probability as foreground_probability,
        least_confidence as least_confidence,
        margin as margin,
        mean_std as mean_std,
    )
    from nnunet_al.scoring.reductions import (
        Boundary as Boundary,
        ClassMeans as ClassMeans,
        ClassWeighted as ClassWeighted,
        Localized as Localized,
        Mean as Mean,
        Target as Target,
    )
    from nnunet_al.scoring.region_scores import evidence_of as evidence_of, region_scores as region_scores
    from nnunet_al.scoring.region_sums import Evidence as Evidence
    from nnunet_al.scoring.samplers import (
        DeterministicSampler as DeterministicSampler,
        DropoutSampler as DropoutSampler,
        EnsembleSampler as EnsembleSampler,
        Samples as Samples,
    )
    from nnunet_al.scoring.segmentation_loss import self_loss as self_loss

publish(
    __name__,
    {
        "augmentation": ("AugmentationSampler",),
        "dropout": ("insert_dropout",),
        "gradients": ("gradient_entries", "log_likelihood", "weight_gradients"),
        "group_weights": ("GroupWeights", "group_weights"),
        "layers": ("convolutions",),
        "maps": (
            "bald",
            "class_entropy",
            "class_variance",
            "entropy",
            "foreground_probability",
            "least_confidence",
            "margin",
            "mean_std",
        ),
        "reductions": ("Boundary", "ClassMeans", "ClassWeighted", "Localized", "Mean", "Target"),
        "region_scores": ("evidence_of", "region_scores"),
        "region_sums": ("Evidence",),
        "samplers": ("DeterministicSampler", "DropoutSampler", "EnsembleSampler", "Samples"),
        "segmentation_loss": ("self_loss",),
    },
)
