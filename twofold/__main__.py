"""`python -m twofold`, for launchers such as torchrun."""

from twofold.cli.app import main

if __name__ == "__main__":
    main()
