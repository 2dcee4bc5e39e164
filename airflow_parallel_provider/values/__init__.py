"""What one value is: kinds, column types, conversions, and how typed JSON keeps a value."""
