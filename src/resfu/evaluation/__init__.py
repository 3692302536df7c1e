"""Quality and cost: metrics for each task, inference on whole images and windows, the cost of a network.

Import from the modules: `cost` and `inference` need torch alone, `semantic` needs torchmetrics too.
"""
