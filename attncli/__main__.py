"""``python -m attncli``: the same as ``attn``."""

from attncli.cli.main import main

if __name__ == "__main__":
    main()
