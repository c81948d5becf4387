"""`mmreg serve`: predictions of a run over HTTP, and a page to try it."""
