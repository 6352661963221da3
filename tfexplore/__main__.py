"""`python -m tfexplore` is the command `tfexplore`."""

from tfexplore.cli import main

raise SystemExit(main())
