"""The external programs, one module each: available, version, run, and pure parsers of what they print."""
