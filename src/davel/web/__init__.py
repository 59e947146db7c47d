"""The page and the API of `davel serve`: jobs in, events out, corrections kept (extra `web`)."""
