"""The trainings behind the published tables, with published and measured numbers side by side."""
