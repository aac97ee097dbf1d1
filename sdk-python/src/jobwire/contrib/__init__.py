"""Jobwire in other frameworks; each module needs the extra of its name: `pip install jobwire[django]`."""
