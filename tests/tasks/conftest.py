from tests.support.toys import toy_data, toy_task, toys

__all__ = ["toy_data", "toy_task", "toys"]
