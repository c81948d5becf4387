"""`python -m mmreg`."""

from mmreg.cli import main

if __name__ == "__main__":
    main()
