"""Pictures of what the other parts of the package do."""
