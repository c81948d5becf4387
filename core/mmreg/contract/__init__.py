"""What a plugin author implements: the five interfaces, what passes between them, declarations, hooks and callbacks."""
