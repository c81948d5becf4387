"""From a table to batches: reading, preparing once, gathering."""
