"""The trainings behind the published tables, with the published numbers beside what they gave."""
