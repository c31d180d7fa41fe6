"""Stage `images`: the preprocessed images that the round's model will be asked about."""

from __future__ import annotations

from nnunet_al.rounds.context import RoundContext


def preprocess_images(context: RoundContext) -> None:
    """Preprocess the images that this round's model will be asked about, before it is trained."""
    if context.decided.recipe.phases():
        context.pool_images()
    if context.decided.test_cases:
        context.test_images()
