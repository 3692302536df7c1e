"""How good and how dear: metrics by task, inference on whole images and windows, cost of a network.

Import from the modules: `resfu.evaluation.cost` and `resfu.evaluation.inference` need torch alone, `semantic`
torchmetrics too.
"""
