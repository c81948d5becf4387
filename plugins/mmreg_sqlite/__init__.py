"""Tables from SQLite databases."""
