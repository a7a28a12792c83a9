"""Drive an Environment with a Policy: the tool loop by default, or a program outside."""
