"""Find and replace the upsampling of an existing network."""

from resfu.upgrading.files import load_upgraded, save_upgraded
from resfu.upgrading.finding import find_upsampling
from resfu.upgrading.places import Guide, Place, Plan
from resfu.upgrading.replacing import upgrade

__all__ = ["Guide", "Place", "Plan", "find_upsampling", "load_upgraded", "save_upgraded", "upgrade"]
