"""`python -m jobs` is `editmill`."""

from jobs.cli import main

if __name__ == "__main__":
    main()
