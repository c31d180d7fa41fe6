"""A strategy is a recipe over scoring and selection; the catalog names every method with its paper."""

from nnunet_al.strategies import plugins, registry

# a name that the registry lacks may be one of an installed package
registry.set_loader(plugins.load)
