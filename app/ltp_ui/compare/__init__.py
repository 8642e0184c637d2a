"""The Compare page: two traces of one text, side by side."""
