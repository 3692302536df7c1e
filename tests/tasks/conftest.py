from tests.support.timing import timed_once
from tests.support.toys import toy_data, toy_task, toys

__all__ = ["timed_once", "toy_data", "toy_task", "toys"]
