"""Defines training recipes: all hyper-parameters, the named recipes, the schedule, and the fit to small sets."""

from sqznet.recipes.named import ARTICLE, DEMO, FINETUNE, IMAGENETTE, MODERN, PAPER, RECIPES, load, path_of
from sqznet.recipes.recipe import (
    ACTIVATIONS,
    NETWORK_FIELDS,
    STRONGEST,
    Recipe,
    from_dict,
    parse_milestones,
    parse_train_sizes,
)
