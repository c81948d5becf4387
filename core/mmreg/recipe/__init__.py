"""What a recipe says: its form, its components, the schema for editors, and a first draft from a table."""
