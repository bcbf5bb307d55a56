"""`python -m rvcd.cli` is the command `rvcd`."""

from rvcd.cli.main import main

if __name__ == "__main__":
    main()
