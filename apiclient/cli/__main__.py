"""``python -m apiclient.cli``."""

from apiclient.cli import main

if __name__ == "__main__":
    main()
