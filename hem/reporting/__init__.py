"""Tables, plots, pages and logging media."""
