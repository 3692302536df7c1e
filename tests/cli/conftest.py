from tests.support.timing import timed_once

__all__ = ["timed_once"]
