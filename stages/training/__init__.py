"""How networks are trained: loops, recipe, checkpoints."""
