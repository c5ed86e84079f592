"""One run: its folder, training, evaluation, controllers, rendering."""
