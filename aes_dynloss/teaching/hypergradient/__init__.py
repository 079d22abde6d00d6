"""Hypergradients: how a dev measure at a run's end depends on the loss's coefficients at every step.

One file an estimator, one signature (:class:`Estimator`), a literal dict of them in :mod:`.estimators`.
"""
