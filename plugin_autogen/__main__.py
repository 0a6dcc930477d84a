"""`python -m plugin_autogen`."""

import sys

from plugin_autogen.cli import main

sys.exit(main())
