"""The label of pixels that are ignored in training and in evaluation."""

IGNORE_INDEX = 255
