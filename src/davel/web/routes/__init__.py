"""The API under `/api`: one module for each part of it, each endpoint a few lines around a method of the `Server`."""
