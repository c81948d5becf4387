"""The checks that every component has to pass, for plugin authors to run."""
