"""Bundled plugin: the optimizers and learning-rate schedules of torch.optim, and three schedules with warm-up."""
