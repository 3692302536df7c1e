"""The 16 classes of the scenes, their colours in pictures, and their order."""

import torch

STUFF = ("sky", "mountain", "grass", "road", "water", "wall", "soil")
THINGS = ("rock", "flower", "ring", "tree", "fence", "lamp", "animal", "cart", "cable")
CLASSES = STUFF + THINGS

PALETTE = torch.tensor(
    [
        (120, 180, 230),  # sky
        (110, 110, 140),  # mountain
        (90, 180, 70),  # grass
        (75, 75, 75),  # road
        (40, 90, 200),  # water
        (170, 80, 60),  # wall
        (160, 120, 70),  # soil
        (205, 195, 175),  # rock
        (240, 110, 190),  # flower
        (140, 60, 200),  # ring
        (0, 100, 40),  # tree
        (230, 200, 60),  # fence
        (255, 255, 160),  # lamp
        (240, 140, 40),  # animal
        (220, 30, 40),  # cart
        (0, 230, 230),  # cable
    ],
    dtype=torch.uint8,
)
