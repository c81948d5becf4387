"""Feeds mmreg with damaged and made-up input, and sees that it gives a result or an error of its own."""
