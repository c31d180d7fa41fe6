from .augmentation import AugmentationSampler as AugmentationSampler
from .dropout import insert_dropout as insert_dropout
from .gradients import (
    gradient_entries as gradient_entries,
    log_likelihood as log_likelihood,
    weight_gradients as weight_gradients,
)
from .group_weights import GroupWeights as GroupWeights, group_weights as group_weights
from .layers import convolutions as convolutions
from .maps import (
    bald as bald,
    class_entropy as class_entropy,
    class_variance as class_variance,
    entropy as entropy,
    foreground_probability as foreground_probability,
    least_confidence as least_confidence,
    margin as margin,
    mean_std as mean_std,
)
from .reductions import (
    Boundary as Boundary,
    ClassMeans as ClassMeans,
    ClassWeighted as ClassWeighted,
    Localized as Localized,
    Mean as Mean,
    Target as Target,
)
from .region_scores import evidence_of as evidence_of, region_scores as region_scores
from .region_sums import Evidence as Evidence
from .samplers import (
    DeterministicSampler as DeterministicSampler,
    DropoutSampler as DropoutSampler,
    EnsembleSampler as EnsembleSampler,
    Samples as Samples,
)
from .segmentation_loss import self_loss as self_loss
