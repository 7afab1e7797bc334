"""How the supernet's weights learn over the two phases of a search."""

from __future__ import annotations

from stages.nas.config import SearchConfig
from stages.training.optimisation import learning_rate
from stages.training.recipe import Recipe


def weights_recipe(config: SearchConfig) -> Recipe:
    """How the supernet's weights learn."""
    return Recipe(
        epochs=config.warmup_epochs + config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def weights_rate(config: SearchConfig, step: int, steps_per_epoch: int, *, pretrained: bool = False) -> float:
    """The weights' learning rate: one cosine over all epochs, or one for each phase, without a rise."""
    recipe, first = weights_recipe(config), config.warmup_learning_rate
    if pretrained:
        recipe, first = recipe.model_copy(update={"learning_rate": config.pretrained_rate}), None
    if first is None:
        return learning_rate(recipe, step, steps_per_epoch, recipe.epochs)
    recipe, before = recipe.model_copy(update={"warmup_epochs": 0.0}), config.warmup_epochs * steps_per_epoch
    if step < before:
        recipe = recipe.model_copy(update={"learning_rate": first})
        return learning_rate(recipe, step, steps_per_epoch, config.warmup_epochs)
    return learning_rate(recipe, step - before, steps_per_epoch, config.epochs)
