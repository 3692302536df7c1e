"""The label of the pixels that do not count, in training and in evaluation."""

IGNORE_INDEX = 255
